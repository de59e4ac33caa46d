"""The parts of the check: what each runs, and what of its result is a failure."""
import importlib.util
import json
import math
import random
import re
import shutil
import struct
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from machine import Busy, Machine, Ran, Unusable

# The zoo's models that are verified and timed: residual, separable, and with shuffled channels.
SMALL = ["resnet20", "mobilenet_v2", "shufflenet_v2"]
LARGE = "mobilenet_v2"
# What is kept of a part's time to pack the state of the studies.
PACKING_SECONDS = 35
# 97.5 % quantile of the normal distribution.
Z = 1.959964
STEP = re.compile(r"median step [\d.]+ ms, ([\d.]+) images/s")


@dataclass
class Found:
    """What a step found. What it could not run is no failure, and no pass."""

    problems: list[str] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    skipped: str | None = None


@dataclass
class Check:
    """What every part works with."""

    machine: Machine
    unpacked: Path
    out: Path
    work: Path
    device: str
    peer: Path
    deadline: float = 0.0

    @property
    def short(self) -> bool:
        """On a CPU the same is done in little, to see that it works."""
        return self.device == "cpu"

    @property
    def engine(self) -> str:
        return "ort-cpu" if self.short else "ort-cuda"

    @property
    def program(self) -> Path:
        return self.unpacked / "program"

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def cohort(self, *words, **environment: str) -> Ran:
        return self.machine.run([self.program / "bin/cohort", *words], self.left(), **environment)

    def student(self) -> Path:
        """The file that the quick start's pipeline exported."""
        path = self.work / f"quickstart-{self.device}/04-export/student.onnx"
        if not path.exists():
            raise Unusable("there is no trained student yet: run part 2 first")
        return path

    def untrained(self, model: str, side: int) -> Path:
        path = self.work / f"{model}-{side}.onnx"
        if not path.exists() or path.stat().st_mtime < (self.program / "bin/cohort").stat().st_mtime:
            classes = 100 if side == 32 else 1000
            ran = self.cohort("inspect", model, "--input", f"3x{side}x{side}", "--classes", classes, "--onnx", path)
            if problems := ran.problem():
                raise Unusable(f"{model} was not written: {problems[0]}")
        return path


Step = tuple[str, Callable[[], Found]]


def read(ran: Ran, what: str) -> dict:
    """The JSON document a program printed."""
    try:
        return json.loads(ran.stdout)
    except ValueError as error:
        raise Unusable(f"{what} printed no JSON: {'; '.join(ran.problem()) or error}") from error


# 1

def libraries(check: Check) -> list[Step]:
    def doctor() -> Found:
        ran = check.cohort("doctor", "--json")
        found = Found(problems=ran.problem())
        for library in read(ran, "cohort doctor")["libraries"]:
            name, version = library["name"], library["version"]
            found.rows.append({"library": name, "version": version or "none", "CUDA": "yes" if library["cuda"] else "no"})
            needs_cuda = not check.short and name != "tract"
            if version is None or (needs_cuda and not library["cuda"]):
                found.problems.append(f"{name}: {library['problem']}")
        return found

    def peer() -> Found:
        if not importlib.util.find_spec("torch"):
            return without_peer(check)
        script = "import torch; print(torch.__version__, torch.cuda.is_available())"
        ran = check.machine.run([sys.executable, "-c", script], check.left())
        version, cuda = (ran.stdout.split() + ["none", "False"])[:2]
        found = Found(problems=ran.problem())
        found.rows.append({"library": "PyTorch", "version": version, "CUDA": "yes" if cuda == "True" else "no"})
        if not check.short and cuda != "True":
            found.problems.append("PyTorch sees no CUDA")
        return found

    def tests(name: str) -> Found:
        """The project's own tests that need CUDA."""
        if check.short:
            return Found(skipped="they need CUDA")
        ran = check.machine.run([check.program / "bin" / name, "--ignored", "on_cuda", "--test-threads=1"], check.left())
        count = re.search(r"(\d+) passed", ran.stdout)
        passed = int(count[1]) if count else 0
        said = [line for line in ran.stdout.splitlines() if "panicked" in line or line.startswith("test ")]
        found = Found(problems=[f"{problem}; {'; '.join(said)}" for problem in ran.problem()])
        if not passed and not found.problems:
            found.problems.append("no test ran")
        found.rows.append({"tests": name, "passed on CUDA": passed})
        return found

    names = ["tests-of-library", "tests-of-step"]
    return [("doctor", doctor), ("PyTorch", peer)] + [(name, lambda name=name: tests(name)) for name in names]


def without_peer(check: Check) -> Found:
    reason = f"{sys.executable} has no PyTorch"
    return Found(skipped=reason) if check.short else Found(problems=[reason])


# 2

def quick_start(check: Check) -> list[Step]:
    def run(folder: str, *settings: str) -> Found:
        sets = [word for setting in settings for word in ("--set", setting)]
        shutil.rmtree(check.work / folder, ignore_errors=True)
        ran = check.cohort("run", *sets, "--out", check.work / folder, "--json")
        if problems := ran.problem():
            return Found(problems=problems)
        scores = json.loads((check.work / folder / "03-select/test.json").read_text())
        trained = [line for line in ran.stderr.splitlines() if "images/s" in line]
        rate = trained[-1].split(";")[-1].strip() if trained else "reused"
        rows = [{"run": folder, "student": name, "test %": 100 * score["accuracy"], "images": score["images"],
                 "last epoch": rate} for name, score in scores.items()]
        return Found(rows=rows)

    def compared() -> Found:
        files = [check.work / name / "03-select/test.json" for name in (here, reference)]
        if missing := [str(file) for file in files if not file.exists()]:
            raise Unusable(f"there is nothing to compare: no {', '.join(missing)}")
        scores = [json.loads(file.read_text()) for file in files]
        found = Found()
        for name, score in scores[0].items():
            other = scores[1][name]
            low, high = difference(score, other)
            points = 100 * (score["accuracy"] - other["accuracy"])
            found.rows.append({"student": name, f"{check.device} against the CPU, points": points,
                               "95 % interval": f"{100 * low:.2f} to {100 * high:.2f}"})
            if not low <= 0 <= high:
                found.problems.append(f"{name}: {points:+.2f} points against the CPU, more than the test images' noise")
        return found

    epochs = ["stages.pretrain.epochs=2", "stages.collaborate.epochs=3"] if check.short else []
    quick = ["stages.bench.min_samples=10", "stages.bench.min_seconds=0.05"] if check.short else []
    here, reference = f"quickstart-{check.device}", "quickstart-reference"
    training_alone = [f"stages.{stage}=null" for stage in ("export", "verify", "bench", "report")]
    steps = [("whole run", lambda: run(here, f"device={check.device}", *epochs, *quick)),
             ("reference on the CPU", lambda: run(reference, "device=cpu", *epochs, *training_alone)),
             ("compared", compared)]
    if not check.short:
        for precision in ("tf32", "bfloat16"):
            settings = ("device=cuda", f"precision={precision}", "stages.bench=null", "stages.report=null")
            steps.append((precision, lambda name=precision, settings=settings: run(f"quickstart-{name}", *settings)))
    return steps


def difference(one: dict, other: dict) -> tuple[float, float]:
    """95 % interval of a difference of shares, by Newcombe's hybrid score method (1998, method 10)."""
    def wilson(share: float, images: int) -> tuple[float, float]:
        middle = share + Z * Z / (2 * images)
        reach = Z * math.sqrt(share * (1 - share) / images + Z * Z / (4 * images * images))
        whole = 1 + Z * Z / images
        return (middle - reach) / whole, (middle + reach) / whole

    p, q = one["accuracy"], other["accuracy"]
    (low, high), (other_low, other_high) = wilson(p, one["images"]), wilson(q, other["images"])
    return (p - q - math.hypot(p - low, other_high - q), p - q + math.hypot(high - p, q - other_low))


# 3

def verify(check: Check) -> list[Step]:
    def compared(file: Path) -> Found:
        ran = check.cohort("verify", file, "--engine", check.engine, "--json")
        report = read(ran, "cohort verify")
        found = Found(problems=ran.problem())
        engines = [engine for engine in report["engines"] if engine["engine"] == check.engine]
        for engine in engines:
            gating = [one for one in engine["sets"] if one["gates"]]
            worst = max(gating, key=lambda one: one["tolerance_used"])
            nodes = {provider.removesuffix("ExecutionProvider"): sum(kinds.values())
                     for provider, kinds in engine["placement"].items()}
            found.rows.append({
                "file": file.stem, "engine": engine["name"], "max error": worst["max_abs"],
                "% of tolerance": 100 * worst["tolerance_used"], "top-1 %": 100 * min(one["top1"] for one in gating),
                "flips": sum(not flip["tie"] for one in gating for flip in one["flips"]),
                "nodes": ", ".join(f"{count} {provider}" for provider, count in nodes.items()),
                "verdict": "pass" if engine["passed"] else "FAIL"})
            wanted = "CPU" if check.short else "CUDA"
            if wanted not in nodes:
                found.problems.append(f"{engine['name']}: no node ran on {wanted}: {nodes}")
        ways = {engine["optimized"] if check.short else engine["tf32"] for engine in engines}
        if ways != {False, True}:
            found.problems.append(f"{check.engine} was not run in both of its ways")
        return found

    trained = ("the quick start's student", lambda: compared(check.student()))
    return [trained] + [(model, lambda model=model: compared(check.untrained(model, 32))) for model in SMALL]


# 4

def unloadable(check: Check) -> list[Step]:
    def refused(name: str, command: list, says: str = "ONNX Runtime CUDA refuses", **environment: str) -> Found:
        """The command must end with exit code 2, say this, and leave no result."""
        result = check.work / "must-not-be.json"
        result.unlink(missing_ok=True)
        ran = check.cohort(*command, **environment)
        found = Found(problems=ran.problem(expected=2))
        if not re.search(says, ran.stderr) or "hint:" not in ran.stderr:
            found.problems.append(f"the error does not say '{says}' with a hint: {ran.stderr.strip()}")
        if result.exists() or ran.stdout.strip():
            found.problems.append("something was measured all the same")
        said = " ".join(ran.stderr.split()).replace(f"{check.work}/", "")
        found.rows.append({"what": name, "exit code": ran.code, "it says": said.split(" hint:")[0]})
        return found

    def command() -> list:
        model = check.untrained(SMALL[0], 32)
        return ["bench", model, "--engine", "ort-cuda", "--out", check.work / "must-not-be.json"]

    def bench(name: str, spoil: Callable[[Path], None]) -> Found:
        facts = read(check.cohort("doctor", "--json"), "cohort doctor")
        runtime = next(Path(one["path"]) for one in facts["libraries"] if one["name"] == "ONNX Runtime")
        copy = check.work / "spoiled"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for library in runtime.parent.glob("libonnxruntime*"):
            (copy / library.name).symlink_to(library)
        spoil(copy)
        return refused(name, command(), ORT_DYLIB_PATH=str(copy / runtime.name))

    def cut(folder: Path) -> None:
        provider = folder / "libonnxruntime_providers_cuda.so"
        head = provider.read_bytes()[:4096] if provider.exists() else b""
        provider.unlink(missing_ok=True)
        provider.write_bytes(head)

    def remove(folder: Path) -> None:
        (folder / "libonnxruntime_providers_cuda.so").unlink(missing_ok=True)

    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    train = ["run", "--set", "device=cuda", "--out", check.work / "must-not-train"]
    return [
        ("provider missing", lambda: bench("bench, provider missing", remove)),
        ("provider cut off", lambda: bench("bench, provider cut off", cut)),
        ("no device, bench", lambda: refused("bench, no device", command(), **hidden)),
        ("no device, training", lambda: refused("run, no device", train, "device cuda:0 was asked for", **hidden)),
    ]


# 5

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
            ("TF32", lambda: timed([*SMALL], 32, ["device"], small, "--tf32")),
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


# 6

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
        plan = [(128, "tf32", False), (1024, "tf32", False), (128, "bfloat16", False), (128, "float32", False),
                (128, "tf32", True), (64, "tf32", False), (256, "tf32", False), (512, "tf32", False),
                (1024, "bfloat16", False), (1024, "float32", False), (1024, "tf32", True), (128, "bfloat16", True)]
    return [(f"batch {batch}, {precision}{', compiled peer' * compiled}",
             lambda batch=batch, precision=precision, compiled=compiled: beside(batch, precision, compiled))
            for batch, precision, compiled in plan]


# 7

def slices(check: Check) -> list[Step]:
    state = check.work / "studies"

    def slice_of(share: float) -> Found:
        """Runs the studies for a share of the time that is left, packing aside."""
        data = check.unpacked / "cifar-100"
        if check.short:
            data = made_up_cifar(check.work / "made-up")
        elif not (data / "cifar-100/train.bin").exists():
            raise Unusable("CIFAR-100 was not brought: put its archive's pieces into the folder")
        seconds = 15 if check.short else int(share * (check.left() - PACKING_SECONDS))
        before = metrics(state)
        command = [check.program / "scripts/cifar-100-slice.sh", seconds, state, check.program / "bin/cohort"]
        sets = ["--set", "device=cpu", "--set", "data.workers=1"] if check.short else []
        ran = check.machine.run([*command, *sets], check.left(), COHORT_DATA=str(data))
        after = metrics(state)
        found = Found(problems=ran.problem())
        if lost := [name for name, text in before.items() if not after.get(name, "").startswith(text)]:
            found.problems.append(f"epochs of {', '.join(lost)} were lost or done again")
        if before and not resumed(ran, before, after):
            found.problems.append("it did not go on from the checkpoint")
        epochs = [sum(text.count("\n") for text in found.values()) for found in (before, after)]
        rates = [float(rate) for rate in re.findall(r"; (\d+) images/s", ran.stderr)]
        if not after and not any(state.rglob("state.safetensors")):
            found.problems.append("it left neither an epoch nor a checkpoint")
        found.rows.append({"slice of, s": seconds, "epochs before": epochs[0], "after": epochs[1],
                           "images/s": sorted(rates)[len(rates) // 2] if rates else None})
        return found

    def bring_in() -> Found:
        """Takes the state of an earlier machine, if it was brought."""
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
    """What every run's stages say of their epochs."""
    return {str(path.relative_to(state)): path.read_text() for path in state.rglob("metrics.jsonl")}


def resumed(ran: Ran, before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether it says that it goes on, or took up a stage that had just been finished."""
    return "going on at epoch" in ran.stderr or set(after) > set(before)


def packed(state: Path, out: Path, piece_mib: int = 15) -> Found:
    """Packs the studies for the next machine. Of a run's two checkpoints the older stays here."""
    import lzma
    import tarfile

    for old in out.glob("studies.tar.xz.*"):
        old.unlink()
    whole = out / "studies.tar.xz"
    with lzma.open(whole, "wb", preset=1) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        archive.add(state, ".", filter=lambda entry: None if entry.name.endswith("previous.safetensors") else entry)
    data = whole.read_bytes()
    whole.unlink()
    size = piece_mib << 20
    for index, start in enumerate(range(0, len(data), size)):
        name = f"studies.tar.xz.{chr(97 + index // 26)}{chr(97 + index % 26)}"
        (out / name).write_bytes(data[start:start + size])
    return Found(rows=[{"state, MiB": len(data) / (1 << 20), "pieces": -(-len(data) // size)}])


def made_up_cifar(folder: Path) -> Path:
    """Noise in CIFAR-100's format, few images a class: to see that slices work, not to learn from."""
    draw = random.Random(7)
    target = folder / "cifar-100"
    target.mkdir(parents=True, exist_ok=True)
    for name, each in (("train.bin", 2), ("test.bin", 1)):
        records = [bytes([fine // 5, fine]) + draw.randbytes(3072) for fine in range(100) for _ in range(each)]
        (target / name).write_bytes(b"".join(records))
    return folder


PARTS: dict[int, tuple[str, Callable[[Check], list[Step]]]] = {
    1: ("libraries", libraries),
    2: ("quick start", quick_start),
    3: ("parity and placement", verify),
    4: ("a provider that cannot load", unloadable),
    5: ("latency", latency),
    6: ("train step", train_step),
    7: ("CIFAR-100 slices", slices),
}
