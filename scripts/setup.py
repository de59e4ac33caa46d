#!/usr/bin/env python3
"""Puts the pinned runtime libraries (libtorch, ONNX Runtime) into .runtime/.

Every wheel is named with version and hash in runtime-libraries.txt and fetched by pip. One that is
unpacked already is not fetched again; one whose fetching was interrupted is fetched at the next call.

GPU=1 in the environment (or an NVIDIA driver, unless GPU=0) takes what CUDA needs too. TORCH=0 takes ONNX
Runtime alone, which is all that a program built without libtorch can use. With LIBTORCH
or LIBTORCH_USE_PYTORCH set the user's own libtorch is left alone, with ORT_DYLIB_PATH the user's own
ONNX Runtime.
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ROOT / ".runtime"
RUST = (1, 92)
GLIBC = range(28, 16, -1)
# The parts of a wheel that a Rust program needs; the rest is Python.
PARTS = {
    "torch": ("torch/lib/", "torch/include/", "torch/version.py", "torch/NOTICE", "torch/LICENSE"),
    "onnxruntime": ("onnxruntime/capi/lib", "onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"),
}
# Free disk space that is needed, with libtorch and without.
SPARE_BYTES = {True: 3 << 30, False: 1 << 28}


def fail(problem: str, remedy: str) -> None:
    sys.exit(f"error: {problem}\n\n  hint: {remedy}")


def check_tools() -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        fail(f"the pinned libraries are for Linux on x86-64, this is {sys.platform} on {os.uname().machine}",
             "set LIBTORCH and ORT_DYLIB_PATH to libraries of your own and call cargo yourself")
    rustc = shutil.which("rustc")
    remedy = "rustup update stable" if shutil.which("rustup") else "install Rust from https://rustup.rs"
    if not rustc or not shutil.which("cargo"):
        fail("there is no Rust compiler", remedy)
    version = subprocess.run([rustc, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)", version)
    if not found or tuple(map(int, found.groups())) < RUST:
        fail(f"Rust {RUST[0]}.{RUST[1]} is needed, this is {version.strip() or 'unknown'}", remedy)
    if wants_torch() and not shutil.which(os.environ.get("CXX", "c++")):
        fail("there is no C++ compiler", "sudo apt-get install g++")
    if not shutil.which(os.environ.get("CC", "cc")):
        fail("there is no C compiler", "sudo apt-get install gcc")
    pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if pip.returncode != 0:
        fail("this python3 has no pip", "sudo apt-get install python3-pip")


def wants_torch() -> bool:
    return os.environ.get("TORCH") != "0"


def has_gpu() -> bool:
    wanted = os.environ.get("GPU", "")
    if wanted in ("0", "1"):
        return wanted == "1"
    return Path("/dev/nvidiactl").exists()


def wheels(gpu: bool) -> list[tuple[str, str, str]]:
    """Package, version and hash of every wheel this machine needs."""
    own_torch = os.environ.get("LIBTORCH") or os.environ.get("LIBTORCH_USE_PYTORCH")
    own_ort = os.environ.get("ORT_DYLIB_PATH")
    chosen = []
    for line in (ROOT / "scripts/runtime-libraries.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        machine, package, version, digest = line.split()
        runtime = package.startswith("onnxruntime")
        if machine != "all" and (machine == "gpu") != gpu:
            continue
        if (runtime and own_ort) or (not runtime and (own_torch or not wants_torch())):
            continue
        chosen.append((package, version, digest))
    return chosen


def mark(package: str) -> Path:
    return RUNTIME / "done" / package


def fetch(package: str, version: str, digest: str, folder: Path) -> Path:
    """Downloads one wheel with pip, which checks its hash."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{package}=={version} --hash=sha256:{digest}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:",
               "--implementation", "cp", "--python-version", "3.12", "--dest", str(folder), "-r", str(requirement)]
    for glibc in GLIBC:
        command += ["--platform", f"manylinux_2_{glibc}_x86_64"]
    command += ["--platform", "manylinux2014_x86_64"]
    if subprocess.run(command).returncode != 0:
        fail(f"pip could not fetch {package} {version}",
             "look at pip's message above; if the hash does not match, the download was damaged or the file in the\n"
             "  index is another: try again, and do not go on with it. What was fetched before is kept")
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        fail(f"pip left {len(found)} files for {package} {version}", "remove .runtime and try again")
    return found[0]


def unpack(wheel: Path, package: str) -> None:
    """Unpacks the parts that are needed. The mark is set last, so that an interrupted unpacking is repeated."""
    parts = PARTS.get("onnxruntime" if package.startswith("onnxruntime") else package, ("nvidia/",))
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.filename.startswith(parts):
                archive.extract(member, RUNTIME)


def main() -> None:
    check_tools()
    gpu = has_gpu()
    needed = wheels(gpu)
    missing = [wheel for wheel in needed if not mark(wheel[0]).exists() or mark(wheel[0]).read_text() != wheel[2]]
    if missing:
        RUNTIME.mkdir(exist_ok=True)
        spare = SPARE_BYTES[wants_torch()]
        if shutil.disk_usage(RUNTIME).free < spare:
            fail(f"less than {spare >> 20} MiB are free under {RUNTIME}", "free some space")
    for left in RUNTIME.glob("fetching-*"):
        shutil.rmtree(left)
    for package, version, digest in missing:
        print(f"fetching {package} {version}", flush=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=RUNTIME) as folder:
            wheel = fetch(package, version, digest, Path(folder))
            if hashlib.sha256(wheel.read_bytes()).hexdigest() != digest:
                fail(f"{package} {version} is not the pinned file", "try again; do not go on with it")
            mark(package).unlink(missing_ok=True)
            unpack(wheel, package)
        mark(package).parent.mkdir(exist_ok=True)
        mark(package).write_text(digest)
    kind = "GPU" if gpu else "CPU"
    print(f"runtime libraries for the {kind}: {', '.join(f'{name} {version}' for name, version, _ in needed) or 'your own'}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; call it again to go on")
    except OSError as error:
        fail(str(error), "mend what it says and call it again")
