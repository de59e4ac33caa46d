"""Speed: latency of exported files, and the training step compared with the same step in PyTorch."""
import importlib.util
import json
import random
import re
import struct
import sys
import time
import zlib
from pathlib import Path

from context import SMALL, Check, Found, Step, without_peer
from machine import Busy

# The model that is timed at 224 pixels.
LARGE = "mobilenet_v2"
STEP = re.compile(r"median step [\d.]+ ms, ([\d.]+) images/s")


def latency(check: Check) -> list[Step]:
    def timed(models: list[str], side: int, modes: list[str], batches: list[int], *options: str) -> Found:
        files = [check.untrained(model, side) for model in models]
        result = check.work / "bench.json"
        result.unlink(missing_ok=True)
        pictures = ["--image", photos(check.work / f"photos-{side}", side)] if "end-to-end" in modes else []
        ran = check.cohort("bench", *files, "--engine", check.engine, "--mode", ",".join(modes), "--batch",
                           ",".join(map(str, batches)), *pictures, *pace, *options, "--out", result)
        if problems := ran.problem():
            return Found(problems=problems)
        found = Found()
        for cell in json.loads(result.read_text())["cells"]:
            place = cell["cell"]
            found.rows.append({
                "model": place["model"], "engine": cell["engine_name"], "mode": place["mode"], "batch": place["batch"],
                "p50, ms": percentile(cell, "p50"), "p95, ms": percentile(cell, "p95"),
                "images/s": cell["images_per_second"], "drifted": "" if cell["stability"]["stable"] else "~"})
            if not check.short and "CUDAExecutionProvider" not in cell["placement"]:
                found.problems.append(f"{place['model']}: no node ran on CUDA")
        return found

    if check.short:
        pace = ["--min-samples", "5", "--min-seconds", "0.05", "--max-seconds", "0.2"]
        copied, whole, small, large = [1, 2], [1], [1, 4], [1]
    else:
        pace = ["--min-samples", "20", "--min-seconds", "0.4", "--max-seconds", "1.5"]
        copied, whole, small, large = [1, 4, 16, 64, 256], [1, 16, 256], [1, 16, 256], [1, 16]
    near = ["device", "host"]
    steps = [
        ("32 pixels", lambda: timed(SMALL, 32, near, copied)),
        ("224 pixels", lambda: timed([LARGE], 224, near, large if check.short else copied)),
        ("32 pixels, from files", lambda: timed(SMALL, 32, ["end-to-end"], whole)),
        ("224 pixels, from files", lambda: timed([LARGE], 224, ["end-to-end"], large)),
    ]
    if not check.short:
        steps += [
            ("CUDA graphs", lambda: timed(SMALL, 32, ["device"], small, "--cuda-graph")),
            ("TF32", lambda: timed(SMALL, 32, ["device"], small, "--tf32")),
            ("TF32, 224 pixels", lambda: timed([LARGE], 224, ["device"], small, "--tf32")),
        ]
    return steps


def percentile(cell: dict, name: str) -> float | None:
    return cell[name]["value"] if cell.get(name) else None


def photos(folder: Path, side: int) -> Path:
    """Sixteen PNG files of smooth colours with a little noise, always the same."""
    draw = random.Random(side)
    folder.mkdir(exist_ok=True)
    for index in range(16):
        rows = []
        for row in range(side):
            pixels = (((row * (index + 1) + column * 3) * 255 // (4 * side) + draw.randrange(16)) % 256
                      for column in range(side) for _ in range(3))
            rows.append(b"\0" + bytes(pixels))
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
        body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
                        for kind, data in chunks)
        (folder / f"{index:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return folder


def train_step(check: Check) -> list[Step]:
    def rate(command: list, batch: int, steps: int, **environment: str) -> tuple[dict, list[str]]:
        with Busy() as busy:
            ran = check.machine.run([*command, "--batch", batch, "--steps", steps, "--device", check.device],
                                    check.left(), **environment)
            ended = time.monotonic()
        match = STEP.search(ran.stdout)
        if not match:
            return {}, ran.problem() or [f"printed no time: {ran.stdout.strip()}"]
        images = float(match[1])
        lasted = steps * batch / images
        return {"ms": 1e3 * batch / images, "busy": busy.share(ended - lasted, ended), "MiB": busy.mib()}, ran.problem()

    def beside(batch: int, precision: str, compiled: bool) -> Found:
        steps = 3 if check.short else max(50, 12_800 // batch)
        strict = {"NVIDIA_TF32_OVERRIDE": "0"} if precision == "float32" else {}
        ours, problems = rate([check.program / "bin/train_step", "--precision", precision], batch, steps, **strict)
        options = ["--amp"] * (precision == "bfloat16") + ["--compile"] * compiled
        alone = None if importlib.util.find_spec("torch") else without_peer(check)
        if alone:
            theirs, more = {}, alone.problems
        else:
            theirs, more = rate([sys.executable, check.peer, *options], batch, steps, **strict)
        row = {"batch": batch, "precision": precision, "peer": "compiled" if compiled else "eager",
               "ours, ms": ours.get("ms"), "peer, ms": theirs.get("ms"),
               "peer / ours": theirs["ms"] / ours["ms"] if ours and theirs else None,
               "ours busy, %": ours.get("busy"), "peer busy, %": theirs.get("busy"),
               "ours, MiB": ours.get("MiB"), "peer, MiB": theirs.get("MiB")}
        return Found(problems=problems + more, rows=[row], skipped=alone and alone.skipped)

    if check.short:
        plan = [(16, "float32", False)]
    else:
        # A compiled peer comes last: it took over three quarters of a minute to compile.
        plan = [(128, "tf32", False), (1024, "tf32", False), (128, "bfloat16", False), (128, "float32", False),
                (1024, "bfloat16", False), (1024, "float32", False), (64, "tf32", False), (256, "tf32", False),
                (512, "tf32", False), (128, "tf32", True), (1024, "tf32", True), (128, "bfloat16", True)]
    return [(f"batch {batch}, {precision}{', compiled peer' * compiled}",
             lambda batch=batch, precision=precision, compiled=compiled: beside(batch, precision, compiled))
            for batch, precision, compiled in plan]
