#!/usr/bin/env python3
"""Compares the latency that `cohort bench` reports for ONNX Runtime with a plain loop in Python, with another clock.

usage: check_latency.py [MODEL] [--batch N] [--rounds N] [--cohort PROGRAM]

In every round both have a turn, in random order, each in a fresh process with the same model, batch, library version
and threads (one within an operation, one between them), input and output bound beforehand. A round gives the ratio
of the two medians. Both warm up until their last two windows agree; if only one did, it would be timed in quieter
moments. Exit code 1 if the 95 % bootstrap interval of the median ratio lies outside of 3 % altogether.
"""
import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 0.03
SECONDS, SAMPLES = 1.0, 100
# As in src/bench/measure.rs: minimum runs and seconds, maximum seconds, and the largest difference between windows.
WARMUP_RUNS, WARMUP_SECONDS, WARMUP_MOST, WARMUP_AGREEMENT = 50, 1.0, 10.0, 0.02
RESAMPLES = 10_000


def is_warm(samples: list[int]) -> bool:
    seconds = sum(samples) / 1e9
    if len(samples) < WARMUP_RUNS or seconds < WARMUP_SECONDS:
        return False
    window = len(samples) // 4
    before, last = samples[-2 * window:-window], samples[-window:]
    return seconds > WARMUP_MOST or abs(statistics.median(last) / statistics.median(before) - 1) < WARMUP_AGREEMENT


def plain_loop(model: Path, batch: int) -> list[int]:
    """Time of every run after a warm-up, in nanoseconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    [image] = session.get_inputs()
    shape = [batch, *image.shape[1:]]
    values = numpy.random.default_rng(0).uniform(-1.7, 1.7, shape).astype(numpy.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input(image.name, onnxruntime.OrtValue.ortvalue_from_numpy(values))
    for output, array in zip(session.get_outputs(), session.run(None, {image.name: values})):
        binding.bind_ortvalue_output(output.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    clock, run = time.perf_counter_ns, session.run_with_iobinding

    def timed(samples: list[int], runs: int) -> None:
        for _ in range(runs):
            start = clock()
            run(binding)
            samples.append(clock() - start)

    gc.disable()
    warmup, samples = [], []
    while not is_warm(warmup):
        timed(warmup, WARMUP_RUNS)
    while len(samples) < SAMPLES or sum(samples) < SECONDS * 1e9:
        timed(samples, SAMPLES)
    return samples


def in_python(options: argparse.Namespace) -> float:
    """Median milliseconds of a fresh process with the plain loop."""
    command = [sys.executable, __file__, str(options.model), "--batch", str(options.batch), "--loop"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return statistics.median(json.loads(found)) / 1e6


def in_cohort(options: argparse.Namespace) -> float:
    """Median milliseconds as measured and reported by `cohort bench`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.json"
        command = [options.cohort, "bench", options.model, "--engine", "ort-cpu", "--batch", options.batch,
                   "--threads", 1, "--min-samples", SAMPLES, "--min-seconds", SECONDS,
                   "--max-seconds", 10 * SECONDS, "--quiet", "--out", out]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        [cell] = json.loads(out.read_text())["cells"]
    median, reported = statistics.median(cell["samples_ns"]) / 1e6, cell["p50"]["value"]
    assert abs(reported / median - 1) < 0.01, f"p50 is {reported} ms where the samples' median is {median} ms"
    return reported


def same_version(cohort: Path) -> str:
    doctor = json.loads(subprocess.run([cohort, "doctor", "--json"], check=True, capture_output=True).stdout)
    [theirs] = [library["version"] for library in doctor["libraries"] if library["name"] == "ONNX Runtime"]
    if theirs != onnxruntime.__version__:
        sys.exit(f"error: {cohort} has ONNX Runtime {theirs}, Python has {onnxruntime.__version__}\n\n"
                 f"  hint: pip install onnxruntime=={theirs}")
    return theirs


def interval(ratios: list[float], chance: random.Random) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]


def main(options: argparse.Namespace) -> None:
    version = same_version(options.cohort)
    print(f"{options.model}, batch {options.batch}, one thread, ONNX Runtime {version}")
    chance, ratios = random.Random(0), []
    for number in range(1, options.rounds + 1):
        turns, found = [in_python, in_cohort], {}
        chance.shuffle(turns)
        for turn in turns:
            found[turn] = turn(options)
        ratios.append(found[in_cohort] / found[in_python])
        print(f"round {number:2}: cohort {found[in_cohort]:.4f} ms, Python {found[in_python]:.4f} ms, "
              f"ratio {ratios[-1]:.4f}", flush=True)
    low, high = interval(ratios, chance)
    print(f"median ratio {statistics.median(ratios):.4f}, 95 % interval {low:.4f} to {high:.4f}, {len(ratios)} rounds")
    if low > 1 + LIMIT or high < 1 - LIMIT:
        sys.exit(f"error: the clocks differ by more than {LIMIT:.0%}")
    within = 1 - LIMIT <= low and high <= 1 + LIMIT
    print(f"within {LIMIT:.0%}" if within else f"not told apart from {LIMIT:.0%}: take more --rounds on a quieter machine")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path, default=ROOT / "runs/quickstart/04-export/big.onnx")
    parser.add_argument("--batch", type=int, default=8, help="8 takes the quick start's big student a millisecond")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--cohort", type=Path, default=ROOT / "target/release/cohort")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.loop:
        print(json.dumps(plain_loop(given.model, given.batch)))
    else:
        main(given)
