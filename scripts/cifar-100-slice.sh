#!/bin/sh
# Runs the CIFAR-100 studies for a limited time: continues where the last call ended, and stops with a checkpoint when the
# time is over. Call it again until it reports that all is done.
#
# usage: COHORT_DATA=/path/to/data scripts/cifar-100-slice.sh [SECONDS=540] [FOLDER=studies]
#        [COHORT=target/release/cohort] [options of `cohort study`, such as --set device=cpu]
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
end=$(($(date +%s) + ${1:-540}))
out=${2:-studies}
cohort=${3:-target/release/cohort}
[ $# -lt 3 ] && shift $# || shift 3
for study in resnet wrn mixed; do
  left=$((end - $(date +%s)))
  [ "$left" -gt 0 ] || break
  timeout --signal=INT "$left" "$cohort" study "$root/pipelines/studies/cifar100-$study.yaml" --out "$out/cifar100-$study" "$@"
  code=$?
  # `timeout` ends with 124 when the time is over.
  case $code in
    0) ;;
    124 | 130) echo "the slice is over; call this again to go on" >&2; exit 0 ;;
    *) exit "$code" ;;
  esac
done
[ "$(date +%s)" -ge "$end" ] || echo "all CIFAR-100 studies are done" >&2
