"""Slices of the CIFAR-100 studies: each continues from the last checkpoint, on this machine or another one."""
import lzma
import random
import re
import shutil
import tarfile
from pathlib import Path

from context import Check, Found, Step
from machine import Ran, Unusable

# Time reserved for packing the state of the studies.
PACKING_SECONDS = 35
# Maximum size of one file of the packed state.
PIECE_MIB = 15


def slices(check: Check) -> list[Step]:
    state = check.work / "studies"

    def slice_of(share: float) -> Found:
        """Runs the studies for a share of the time that is left, without that for packing."""
        data = check.unpacked / "cifar-100"
        if check.short:
            data = made_up_cifar(check.work / "made-up")
        elif not (data / "cifar-100/train.bin").exists():
            raise Unusable("CIFAR-100 was not brought: put its archive's pieces into the folder")
        seconds = 15 if check.short else int(share * (check.left() - PACKING_SECONDS))
        before, begun = metrics(state), any(state.rglob("state.safetensors"))
        command = [check.program / "scripts/cifar-100-slice.sh", seconds, state, check.program / "bin/cohort"]
        sets = ["--set", "device=cpu", "--set", "data.workers=1"] if check.short else []
        ran = check.machine.run([*command, *sets], check.left(), COHORT_DATA=str(data))
        after = metrics(state)
        found = Found(problems=ran.problem())
        if lost := [name for name, text in before.items() if not after.get(name, "").startswith(text)]:
            found.problems.append(f"epochs of {', '.join(lost)} were lost or done again")
        if begun and not resumed(ran, before, after):
            found.problems.append("it did not go on from the checkpoint")
        epochs = [sum(text.count("\n") for text in texts.values()) for texts in (before, after)]
        rates = [float(rate) for rate in re.findall(r"; (\d+) images/s", ran.stderr)]
        if not after and not any(state.rglob("state.safetensors")):
            found.problems.append("it left neither an epoch nor a checkpoint")
        found.rows.append({"slice of, s": seconds, "epochs before": epochs[0], "after": epochs[1],
                           "images/s": sorted(rates)[len(rates) // 2] if rates else None})
        return found

    def bring_in() -> Found:
        """Uses the state from an earlier machine, if it was copied."""
        brought = check.unpacked / "studies"
        if brought.exists() and not state.exists():
            shutil.copytree(brought, state)
        return Found(rows=[{"state": "brought" if brought.exists() else "none brought",
                            "epochs": sum(text.count("\n") for text in metrics(state).values())}])

    def pack() -> Found:
        if not state.exists() or not any(state.rglob("*.safetensors")):
            raise Unusable("the slices left nothing to pack")
        return packed(state, check.out)

    return [("state", bring_in), ("one slice", lambda: slice_of(0.5)), ("the next", lambda: slice_of(1.0)), ("packed", pack)]


def metrics(state: Path) -> dict[str, str]:
    """The epochs that every run has recorded, by file."""
    return {str(path.relative_to(state)): path.read_text() for path in state.rglob("metrics.jsonl")}


def resumed(ran: Ran, before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether it continued a stage, or began the one after a finished stage."""
    return "going on at epoch" in ran.stderr or set(after) > set(before)


def packed(state: Path, out: Path) -> Found:
    """Packs the studies for the next machine, with the newer of a run's two checkpoints."""
    for old in out.glob("studies.tar.xz.*"):
        old.unlink()
    whole = out / "studies.tar.xz"
    with lzma.open(whole, "wb", preset=1) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        archive.add(state, ".", filter=lambda entry: None if entry.name.endswith("previous.safetensors") else entry)
    data = whole.read_bytes()
    whole.unlink()
    size = PIECE_MIB << 20
    for index, start in enumerate(range(0, len(data), size)):
        name = f"studies.tar.xz.{chr(97 + index // 26)}{chr(97 + index % 26)}"
        (out / name).write_bytes(data[start:start + size])
    return Found(rows=[{"state, MiB": len(data) / (1 << 20), "pieces": -(-len(data) // size)}])


def made_up_cifar(folder: Path) -> Path:
    """Noise in CIFAR-100's format, a few images per class: it tests slices and teaches nothing."""
    draw = random.Random(7)
    target = folder / "cifar-100"
    target.mkdir(parents=True, exist_ok=True)
    for name, each in (("train.bin", 2), ("test.bin", 1)):
        records = [bytes([fine // 5, fine]) + draw.randbytes(3072) for fine in range(100) for _ in range(each)]
        (target / name).write_bytes(b"".join(records))
    return folder
