#!/usr/bin/env bash
# Proves that what `make without-libtorch` makes verifies and benches with nothing but the two files it consists of,
# and that the program alone does so with tract.
#
# usage: check_without_libtorch.sh [FOLDER]
set -euo pipefail

MOST_BYTES=$((40 * 1000 * 1000))

root=$(cd "$(dirname "$0")/.." && pwd)
made=$(cd "${1:-$root/target/without-libtorch}" && pwd)
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
cp "$root/tests/fixtures/onnx/squeeze_excite.torchscript.onnx" "$away/m.onnx"
mkdir "$away/alone" "$away/both"
cp "$made/cohort" "$away/alone/"
cp "$made/cohort" "$made/libonnxruntime.so" "$away/both/"
cd "$away"
unset LIBTORCH LIBTORCH_USE_PYTORCH LD_LIBRARY_PATH ORT_DYLIB_PATH

fail() {
    echo "error: $1" >&2
    exit 1
}

# expect CODE TEXT COMMAND…: the command ends with the code, and says the text on stdout or stderr.
expect() {
    local wanted=$1 text=$2 code=0
    shift 2
    "$@" >said 2>&1 || code=$?
    [ "$code" = "$wanted" ] || fail "exit code $code instead of $wanted: $*"$'\n'"$(cat said)"
    grep -qF -- "$text" said || fail "no '$text' in what this says: $*"$'\n'"$(cat said)"
    echo "exit code $code, '$text': $*"
}

bytes=$(stat -c %s alone/cohort)
[ "$bytes" -le "$MOST_BYTES" ] || fail "$bytes bytes, more than $MOST_BYTES"
echo "$bytes bytes, at most $MOST_BYTES"
needed=$(readelf -d alone/cohort | grep -E 'NEEDED|RPATH|RUNPATH')
echo "$needed"
! grep -qiE 'torch|c10|RPATH|RUNPATH' <<<"$needed" || fail "it is linked to libtorch or looks for libraries"
! ldd alone/cohort | grep -qi 'not found' || fail "a library is not found"$'\n'"$(ldd alone/cohort)"

quick=(--batch 1 --min-samples 30 --min-seconds 0 --max-seconds 5)
expect 0 'engines agree' both/cohort verify m.onnx
expect 0 'ONNX Runtime CPU' both/cohort verify m.onnx --json
expect 0 'tract' both/cohort verify m.onnx --json
expect 0 'ort-cpu' both/cohort bench m.onnx "${quick[@]}"
expect 0 'tract' both/cohort bench m.onnx "${quick[@]}"
expect 0 "$away/both/libonnxruntime.so" both/cohort doctor

for verb in verify bench doctor; do
    arguments=("$verb")
    [ "$verb" = doctor ] || arguments+=(m.onnx)
    [ "$verb" != bench ] || arguments+=("${quick[@]}")
    expect 0 'warning: continuing without ONNX Runtime' alone/cohort "${arguments[@]}"
    expect 0 'hint: ' alone/cohort "${arguments[@]}"
    expect 0 'tract' alone/cohort "${arguments[@]}"
    expect 2 'hint: ' alone/cohort "${arguments[@]}" --ort-lib nowhere/libonnxruntime.so
done
for verb in verify bench; do
    expect 2 'hint: ' alone/cohort "$verb" m.onnx --engine ort-cpu,tract
done
expect 2 'hint: ' alone/cohort run
echo "verifies and benches without libtorch, and without ONNX Runtime"
