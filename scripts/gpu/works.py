"""Function: libraries, a whole run, parity and placement, and providers that cannot load."""
import importlib.util
import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Callable

from context import SMALL, Check, Found, Step, read, without_peer
from machine import Unusable

# 97.5 % quantile of the normal distribution.
Z = 1.959964


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

    epochs = ["stages.collaborate.epochs=3"] if check.short else []
    quick = ["stages.bench.min_samples=10", "stages.bench.min_seconds=0.05"] if check.short else []
    here, reference = f"quickstart-{check.device}", "quickstart-reference"
    training_alone = [f"stages.{stage}=null" for stage in ("export", "verify", "bench", "report")]
    steps = [("whole run", lambda: run(here, f"device={check.device}", *epochs, *quick))]
    if not check.short:
        for precision in ("tf32", "bfloat16"):
            settings = ("device=cuda", f"precision={precision}", "stages.bench=null", "stages.report=null")
            steps.append((precision, lambda name=precision, settings=settings: run(f"quickstart-{name}", *settings)))
    # Last, because it takes longest and needs no GPU.
    return steps + [("reference on the CPU", lambda: run(reference, "device=cpu", *epochs, *training_alone)),
                    ("compared", compared)]


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
            found.problems += [f"{engine['name']}: {problem}" for problem in engine["problems"]]
            wanted = "CPU" if check.short else "CUDA"
            if wanted not in nodes:
                found.problems.append(f"{engine['name']}: no node ran on {wanted}: {nodes}")
        ways = {engine["optimized"] if check.short else engine["tf32"] for engine in engines}
        if ways != {False, True}:
            found.problems.append(f"{check.engine} was not run in both of its ways")
        return found

    trained = ("the quick start's student", lambda: compared(check.student()))
    return [trained] + [(model, lambda model=model: compared(check.untrained(model, 32))) for model in SMALL]


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
