"""Shared by all parts of the check: their context, and the result of a step."""
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from machine import Machine, Ran, Unusable

# The zoo's models that are verified and timed at 32 pixels: residual, separable, and with shuffled channels.
SMALL = ["resnet20", "mobilenet_v2", "shufflenet_v2"]


@dataclass
class Found:
    """The result of a step. A skipped step is neither a failure nor a pass."""

    problems: list[str] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    skipped: str | None = None


@dataclass
class Check:
    """The context of all parts."""

    machine: Machine
    unpacked: Path
    out: Path
    work: Path
    device: str
    peer: Path
    deadline: float = 0.0

    @property
    def short(self) -> bool:
        """On a CPU a small version runs, to test the check itself."""
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


def without_peer(check: Check) -> Found:
    reason = f"{sys.executable} has no PyTorch"
    return Found(skipped=reason) if check.short else Found(problems=[reason])
