#!/usr/bin/env bash
# Checks on a machine with a GPU what none without one can: that everything on CUDA works, and how fast. Needs no
# network and no cargo: only python3, with PyTorch 2.11 for its libraries, and the folder that scripts/gpu/pack.sh made,
# brought here whole or piece by piece; this script is in it.
#
# usage: gpu-check.sh [--folder .gpu] [--parts 1,3,5] [--device cuda|cpu] [--out FOLDER/out] [--help]
exec "${PYTHON:-python3}" -B "$(dirname "$0")/gpu/check.py" "$@"
