"""The check on a machine with a GPU; scripts/gpu-check.sh describes it."""
import argparse
import json
import sys
import textwrap
import time
from pathlib import Path
from typing import Callable

from context import Check, Found, Step
from machine import Machine, Unusable, pieces, unpack
from record import Record
from slices import slices
from speed import latency, train_step
from works import libraries, quick_start, unloadable, verify

PARTS: dict[int, tuple[str, Callable[[Check], list[Step]]]] = {
    1: ("libraries", libraries),
    2: ("quick start", quick_start),
    3: ("parity and placement", verify),
    4: ("a provider that cannot load", unloadable),
    5: ("latency", latency),
    6: ("train step", train_step),
    7: ("CIFAR-100 slices", slices),
}


def arguments() -> argparse.Namespace:
    lists = "\n".join(f"  {number}  {title}" for number, (title, _) in PARTS.items())
    parser = argparse.ArgumentParser(prog="gpu-check.sh", description=f"parts:\n{lists}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[1]
    folder = beside if pieces(beside) else Path(".gpu")
    parser.add_argument("--folder", type=Path, default=folder, help="what scripts/gpu/pack.sh made [its own, or .gpu]")
    parser.add_argument("--parts", type=chosen, default=list(PARTS), metavar="1,2", help="which parts to run [all]")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu does the same in little [cuda]")
    parser.add_argument("--out", type=Path, help="where gpu-check.json, .md and .log go [FOLDER/out]")
    parser.add_argument("--seconds", type=float, default=170.0,
                        help="for each part at most; what is left goes on at the next call [170]")
    parser.add_argument("--peer", type=Path,
                        help="the PyTorch script that part 6 times beside ours [scripts/step-in-pytorch.py]")
    return parser.parse_args()


def chosen(text: str) -> list[int]:
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = [0]
    if not set(numbers) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"expected numbers from 1 to {max(PARTS)}, such as 1,3")
    return numbers


def facts(machine: Machine, program: Path) -> dict:
    """Facts of the machine on which the figures depend."""
    ran = machine.run([program / "bin/cohort", "doctor", "--json"], 60)
    try:
        found = json.loads(ran.stdout)
    except ValueError as error:
        raise Unusable(f"bin/cohort does not run here: {'; '.join(ran.problem()) or error}") from error
    seen = found["environment"]
    gpu = seen["gpu"]
    named = gpu and f"{gpu['name']}, {(gpu['memory_bytes'] or 0) / (1 << 30):.0f} GiB, driver {gpu['driver']} for CUDA {gpu['cuda']}"
    revision = program / "revision"
    return {"GPU": named, "CPU": f"{seen['cpu_model']}, {seen['available_threads']} threads", "system": seen["system"],
            "versions": ", ".join(f"{name} {version}" for name, version in sorted(seen["versions"].items())),
            "program": revision.read_text().strip() if revision.exists() else None}


def run(check: Check, record: Record, number: int, seconds: float) -> None:
    """Runs the steps of a part that are not done yet, until its time is over."""
    title, steps_of = PARTS[number]
    steps = steps_of(check)
    done = record.part(number, title, [name for name, _ in steps])
    check.deadline = time.monotonic() + seconds
    for name, step in steps:
        # A step that would have no time to end is left to the next call.
        if name in done or check.left() < seconds / 8:
            continue
        started = time.monotonic()
        try:
            found = step()
        except Unusable as problem:
            found = Found(problems=[str(problem)])
        except (OSError, KeyError, ValueError, TypeError) as error:
            found = Found(problems=[f"{type(error).__name__}: {error}"])
        took = time.monotonic() - started
        record.step(number, name, took, found.problems, found.rows, found.skipped)
        word = "FAIL" if found.problems else f"skipped, {found.skipped}" if found.skipped else "pass"
        print(f"  {number} {name:<34} {took:5.0f} s  {word}", flush=True)
        for problem in found.problems:
            print(textwrap.fill(problem, 80, initial_indent=" " * 6, subsequent_indent=" " * 6), flush=True)
    print(f"{number} {title}: {record.verdict(number)}", flush=True)


def main() -> int:
    args = arguments()
    if not args.folder.is_dir():
        raise Unusable(f"there is no folder {args.folder}: make it with scripts/gpu/pack.sh, or name it with --folder")
    folder = args.folder.resolve()
    out = (args.out or folder / "out").resolve()
    work = folder / f"work-{args.device}"
    for made in (out, work):
        made.mkdir(parents=True, exist_ok=True)
    unpacked = unpack(folder)
    program = unpacked / "program"
    if not (program / "bin/cohort").exists():
        raise Unusable(f"{folder} holds no program.tar.xz: bring what scripts/gpu/pack.sh made")
    if args.device == "cuda" and not (unpacked / "onnxruntime").exists():
        print("there is no onnxruntime.tar.xz.*: the ONNX Runtime of this machine is used", flush=True)
    machine = Machine(unpacked, out / "gpu-check.log")
    record = Record(out, args.device, facts(machine, program))
    peer = (args.peer or program / "scripts/step-in-pytorch.py").resolve()
    if not peer.is_file():
        raise Unusable(f"there is no {peer}")
    check = Check(machine, unpacked, out, work, args.device, peer)
    for number in args.parts:
        run(check, record, number, args.seconds)
    print(out / "gpu-check.md")
    return 1 if any(record.verdict(number) == "fail" for number in args.parts) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unusable as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except OSError as problem:
        print(f"error: {problem}; mend what it says and call it again", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; what was measured is kept, and the same command goes on", file=sys.stderr)
        sys.exit(130)
