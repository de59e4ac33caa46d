"""The machine: unpacks what was copied to it, finds its libraries, and runs programs."""
import importlib.util
import lzma
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ARCHIVE = re.compile(r"(?P<name>.+)\.tar\.xz(\.[a-z]{2})?")
# Interval between two readings of the GPU, in milliseconds.
LOOK_MS = 100
# Time limit for the first reading.
FIRST_LOOK_SECONDS = 3.0


class Unusable(Exception):
    """Something that was copied cannot be used; the message says what to do."""


def pieces(folder: Path) -> dict[str, list[Path]]:
    """The archives of a folder by name, each with its pieces in order."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.tar.xz*")):
        if match := ARCHIVE.fullmatch(path.name):
            found.setdefault(match["name"], []).append(path)
    return found


def unpack(folder: Path) -> Path:
    """Unpacks every archive of a folder into unpacked/NAME, once, and returns the folder `unpacked`."""
    unpacked = folder / "unpacked"
    for name, parts in pieces(folder).items():
        target, mark = unpacked / name, unpacked / f"{name}.done"
        state = "\n".join(f"{part.name} {part.stat().st_size} {part.stat().st_mtime_ns}" for part in parts)
        if mark.exists() and mark.read_text() == state:
            continue
        print(f"unpacking {name}", flush=True)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        try:
            with tarfile.open(fileobj=lzma.open(Joined(parts)), mode="r|") as archive:
                archive.extractall(target, filter="data")
        except (EOFError, lzma.LZMAError, tarfile.TarError) as error:
            names = ", ".join(part.name for part in parts)
            raise Unusable(f"{name} is damaged or not all there ({error}): found {names}; bring its pieces again") from error
        mark.write_text(state)
    return unpacked


class Joined:
    """Several files, read as one."""

    def __init__(self, parts: list[Path]):
        self.files = [open(part, "rb") for part in parts]

    def read(self, size: int = -1) -> bytes:
        while self.files:
            if data := self.files[0].read(size):
                return data
            self.files.pop(0).close()
        return b""


@dataclass
class Ran:
    """The result of a program."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool

    def problem(self, expected: int = 0) -> list[str]:
        """Empty if it ended as expected, else the last lines that it printed."""
        if self.timed_out:
            return [f"was stopped after {self.seconds:.0f} s"]
        if self.code == expected:
            return []
        said = (self.stderr.strip() or self.stdout.strip()).splitlines()
        return [f"exit code {self.code} instead of {expected}: {' '.join(said[-6:])}"]


@dataclass
class Busy:
    """Utilisation of the GPU while a program runs, from nvidia-smi; empty if there is none."""

    looks: list[tuple[float, float, float]] = field(default_factory=list)
    _child: subprocess.Popen | None = None

    def __enter__(self) -> "Busy":
        query = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
        try:
            self._child = subprocess.Popen([*query, f"--loop-ms={LOOK_MS}"], stdout=subprocess.PIPE,
                                           stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return self
        threading.Thread(target=self._look, daemon=True).start()
        # Some GPUs report nothing; the program does not wait for them.
        latest = time.monotonic() + FIRST_LOOK_SECONDS
        while not self.looks and self._child.poll() is None and time.monotonic() < latest:
            time.sleep(0.01)
        return self

    def _look(self) -> None:
        for line in self._child.stdout:
            try:
                share, mib = (float(number) for number in line.split(","))
            except ValueError:
                continue
            self.looks.append((time.monotonic(), share, mib))

    def __exit__(self, *_) -> None:
        if self._child:
            self._child.terminate()
            self._child.wait()

    def share(self, start: float, end: float) -> float | None:
        """Mean utilisation between two times, in per cent."""
        shares = [share for moment, share, _ in self.looks if start <= moment <= end]
        return sum(shares) / len(shares) if shares else None

    def mib(self) -> float | None:
        """Peak memory minus memory at the start, in MiB."""
        return max(mib for *_, mib in self.looks) - self.looks[0][2] if self.looks else None


class Machine:
    """Runs programs with the libraries that they need, and logs everything that they print."""

    def __init__(self, unpacked: Path, log: Path):
        self.log = log
        self.environment = dict(os.environ)
        folders = torch_libraries()
        runtime = sorted((unpacked / "onnxruntime").glob("libonnxruntime.so.1.*"))
        if runtime:
            self.environment["ORT_DYLIB_PATH"] = str(runtime[-1])
        if folders:
            path = [*folders, self.environment.get("LD_LIBRARY_PATH", "")]
            self.environment["LD_LIBRARY_PATH"] = ":".join(entry for entry in path if entry)

    def run(self, command: list, seconds: float, **environment: str) -> Ran:
        """Runs a program with these environment variables, for at most `seconds`."""
        known = {**self.environment, **environment}
        command = [str(word) for word in command]
        started = time.monotonic()
        with subprocess.Popen(command, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              errors="replace", start_new_session=True) as child:
            timed_out = False
            try:
                stdout, stderr = child.communicate(timeout=max(1.0, seconds))
            except subprocess.TimeoutExpired:
                timed_out = True
                os.killpg(child.pid, signal.SIGKILL)
                stdout, stderr = child.communicate()
            except BaseException:
                os.killpg(child.pid, signal.SIGINT)
                raise
        ran = Ran(child.returncode, stdout, stderr, time.monotonic() - started, timed_out)
        with open(self.log, "a") as log:
            log.write(f"\n$ {' '.join(command)}\n{shortened(stdout)}{shortened(stderr)}[{ran.code}, {ran.seconds:.1f} s]\n")
        return ran


def shortened(text: str, most: int = 20_000) -> str:
    return text if len(text) <= most else f"{text[:most // 2]}\n...\n{text[-most // 2:]}"


def torch_libraries() -> list[str]:
    """The folders of the libraries of this Python's PyTorch and of its CUDA."""
    found = importlib.util.find_spec("torch")
    if not found or not found.origin:
        return []
    site = Path(found.origin).parents[1]
    libraries = [*(site / "torch/lib").glob("lib*.so*"), *(site / "nvidia").rglob("lib*.so*")]
    return sorted({str(library.parent) for library in libraries})
