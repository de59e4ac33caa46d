#!/usr/bin/env bash
# Makes the folder that scripts/gpu-check.sh needs on a machine with a GPU, in archives of pieces small enough to be
# brought one by one: the program and the step bench, ONNX Runtime's CUDA build, and CIFAR-100 from $COHORT_DATA.
#
# usage: scripts/gpu/pack.sh [FOLDER=.gpu] [program|onnxruntime|cifar-100 ...]   all three unless some are named
#        PIECE_MIB=48  megabytes of a piece
#        PEER=FILE     the PyTorch script of the same step that is timed beside ours
set -euo pipefail
cd "$(dirname "$0")/../.."
to=${1:-.gpu}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- program onnxruntime cifar-100
peer=${PEER:-../shared/peers/ctsl_torch.py}
mkdir -p "$to"
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
command -v xz >"$away/xz" || { echo "error: there is no xz; sudo apt-get install xz-utils" >&2; exit 2; }

# pack NAME: what lies in $away/NAME.
pack() {
    rm -f "$to/$1".tar.xz*
    tar -C "$away/$1" -c . | xz -T0 -6 | split -b "${PIECE_MIB:-48}M" - "$to/$1.tar.xz."
    ls -l "$to/$1".tar.xz.*
}

pack_program() {
    cargo build --release --locked
    cargo build --release --locked --bench train_step
    local bench
    bench=$(cargo build --release --locked --bench train_step --message-format=json 2>>"$away/cargo" |
        python3 -c 'import json, sys; print(*(one["executable"] for one in map(json.loads, sys.stdin) if one.get("executable") and one["target"]["name"] == "train_step"))')
    mkdir -p "$away/program/bin" "$away/program/peer"
    strip -o "$away/program/bin/cohort" target/release/cohort
    strip -o "$away/program/bin/train_step" "$bench"
    cp -r pipelines models scripts "$away/program/"
    [ ! -f "$peer" ] || cp "$peer" "$away/program/peer/ctsl_torch.py"
    git describe --always --dirty >"$away/program/revision" 2>>"$away/git" || echo "unknown" >"$away/program/revision"
    pack program
}

pack_onnxruntime() {
    python3 - "$away" <<'PY'
import sys
from pathlib import Path

sys.path.insert(0, "scripts")
import setup

line = next(line for line in Path("scripts/runtime-libraries.txt").read_text().splitlines() if "onnxruntime-gpu" in line)
_, package, version, digest = line.split()
away = Path(sys.argv[1])
setup.RUNTIME = away / "wheel"
setup.unpack(setup.fetch(package, version, digest, away), package)
PY
    mkdir "$away/onnxruntime"
    mv "$away"/wheel/onnxruntime/capi/libonnxruntime*.so* "$away/onnxruntime/"
    rm -f "$away/onnxruntime/libonnxruntime_providers_tensorrt.so"
    pack onnxruntime
}

pack_cifar-100() {
    local data=${COHORT_DATA:?names the folder that holds cifar-100}/cifar-100
    mkdir -p "$away/cifar-100/cifar-100"
    if [ -f "$data/train.bin" ]; then
        cp "$data"/*.bin "$away/cifar-100/cifar-100/"
    else
        cat "$data"/train.bin.part?.xz | xz -dc >"$away/cifar-100/cifar-100/train.bin"
        xz -dc "$data/test.bin.xz" >"$away/cifar-100/cifar-100/test.bin"
    fi
    cp "$data"/*_label_names.txt "$away/cifar-100/cifar-100/"
    pack cifar-100
}

for what; do
    case $what in
        program | onnxruntime | cifar-100) "pack_$what" ;;
        *) echo "error: $what is none of program, onnxruntime, cifar-100" >&2; exit 2 ;;
    esac
done
