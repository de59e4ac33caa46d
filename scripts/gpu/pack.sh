#!/usr/bin/env bash
# Makes the folder to copy to a machine with a GPU: gpu-check.sh and archives, in pieces that can be copied one by one, of
# the program with its step bench, ONNX Runtime's CUDA build, and CIFAR-100 from $COHORT_DATA.
#
# usage: scripts/gpu/pack.sh [FOLDER=.gpu] [program|onnxruntime|cifar-100 ...]   all three unless some are named
#        PIECE_MIB=48  the size of a piece
set -euo pipefail
cd "$(dirname "$0")/../.."
to=${1:-.gpu}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- program onnxruntime cifar-100
mkdir -p "$to"
cp -r scripts/gpu-check.sh scripts/gpu "$to/"
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
command -v xz >"$away/xz" || { echo "error: there is no xz; sudo apt-get install xz-utils" >&2; exit 2; }

# pack NAME: makes an archive of $away/NAME.
pack() {
    rm -f "$to/$1".tar.xz*
    tar -C "$away/$1" -c . | xz -T0 -6 | split -b "${PIECE_MIB:-48}M" - "$to/$1.tar.xz."
    ls -l "$to/$1".tar.xz.*
}

# built NAME KIND ARGUMENTS: builds a target of that kind with cargo and puts it into the archive as NAME.
built() {
    local name=$1 kind=$2
    shift 2
    cargo "$@" --release --locked --message-format=json-render-diagnostics >"$away/cargo"
    strip -o "$away/program/bin/$name" "$(python3 - "$kind" "$away/cargo" <<'PY'
import json
import sys

made = (json.loads(line) for line in open(sys.argv[2]))
print(*(one["executable"] for one in made if one.get("executable") and sys.argv[1] in one["target"]["kind"]))
PY
    )"
}

pack_program() {
    mkdir -p "$away/program/bin"
    built cohort bin build --bin cohort
    built cohort-program bin build --bin cohort-program
    built train_step bench build --bench train_step
    built tests-of-library lib test --lib --no-run
    built tests-of-step test test --test train_step --no-run
    cp -r pipelines models scripts "$away/program/"
    git describe --always --dirty >"$away/program/revision" 2>>"$away/git" || echo "unknown" >"$away/program/revision"
    pack program
}

pack_onnxruntime() {
    python3 -B - "$away" <<'PY'
import os
import sys
from pathlib import Path

sys.path.insert(0, "scripts")
import setup

# The pinned version, even if another one is in use here.
os.environ.pop("ORT_DYLIB_PATH", None)
package, version, digest = next(wheel for wheel in setup.wheels(gpu=True) if wheel[0].startswith("onnxruntime"))
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
