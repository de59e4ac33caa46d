#!/usr/bin/env bash
# Checks on a machine with a GPU that everything on CUDA works, and how fast. Needs neither network nor cargo, only python3
# with PyTorch 2.11, for its libraries, and the folder made by scripts/gpu/pack.sh, which contains this script and can be
# copied piece by piece.
#
# usage: gpu-check.sh [--folder .gpu] [--parts 1,3,5] [--device cuda|cpu] [--out FOLDER/out] [--help]
exec "${PYTHON:-python3}" -B "$(dirname "$0")/gpu/check.py" "$@"
