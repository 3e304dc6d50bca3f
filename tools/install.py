"""Make the virtual environment and install Baywindow into it: what `make demo` and `make test` run first.

    python3 tools/install.py [.venv] [--extras local,dev]

Needs nothing but Python 3.11 or newer and a package index. Running it again costs a moment when nothing changed, brings the
environment up to date when `pyproject.toml` did, and makes it anew when it is broken, half-made or was moved here from elsewhere.

PyTorch comes first and apart, because on Linux its plain release is a CUDA build of several gigabytes. In this order: a PyTorch
that is already there, the index named by BAY_TORCH_INDEX (a user's choice, e.g. of the CPU build), the release Baywindow is
tested with, any release new enough. This file runs before anything is installed and under Pythons too old for Baywindow, so it
uses the standard library alone and no syntax newer than Python 3.8.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
TESTED_TORCH = "torch==2.13.0"
ANY_TORCH = "torch>=2.6"
STAMP = "baywindow-installed.json"  # written last
STARTED = "baywindow-started"  # there while pip works: one that is left over means that a run was killed in the middle


class InstallError(Exception):
    """One line for a person, and what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the virtual environment and install Baywindow into it.")
    parser.add_argument("venv", nargs="?", default=".venv", type=Path)
    parser.add_argument("--extras", default="local,dev", help="which optional parts (default: local,dev)")
    options = parser.parse_args(argv)
    try:
        install(options.venv.absolute(), options.extras)
    except InstallError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run it again to start anew", file=sys.stderr)
        return 130
    return 0


def install(venv: Path, extras: str) -> None:
    """Bring ``venv`` to what the project asks for. Raises InstallError with a hint."""
    interpreter = newest_enough()
    wanted = fingerprint(venv, extras)
    usable = works(venv)
    if usable and stamp_of(venv) == wanted:
        return
    if not usable or (venv / STARTED).exists():
        remake(venv, interpreter)
    (venv / STAMP).unlink(missing_ok=True)
    (venv / STARTED).touch()
    try:
        install_packages(venv, extras)
    except InstallError:
        (venv / STARTED).unlink()  # pip ended by itself, so what it finished is whole and the next run goes on from there
        raise
    (venv / STAMP).write_text(json.dumps(wanted), encoding="utf-8")
    (venv / STARTED).unlink()
    say("installed")


def install_packages(venv: Path, extras: str) -> None:
    if "local" in extras.split(","):
        install_torch(venv)
    say(f"installing baywindow[{extras}] into {venv.name}")
    if not pip(venv, "install", "--editable", f"{ROOT}[{extras}]"):
        raise InstallError("pip could not install the packages", "read pip's lines above; is a package index reachable?")


def newest_enough() -> str:
    """A Python of 3.11 or newer: this one, else one found by its versioned name."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for minor in range(11, 20):
        if found := shutil.which(f"python3.{minor}"):
            return found
    have = ".".join(map(str, sys.version_info[:3]))
    raise InstallError(f"Baywindow needs Python 3.11 or newer; this is {have}", "install one and run: make demo PYTHON=python3.12")


def fingerprint(venv: Path, extras: str) -> dict[str, str]:
    """What an installation depends on. The venv's place is part of it: scripts inside hold absolute paths."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return {"sha256": digest.hexdigest(), "extras": extras, "venv": str(venv), "root": str(ROOT)}


def stamp_of(venv: Path) -> dict[str, str] | None:
    try:
        found = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def works(venv: Path) -> bool:
    """Whether there is a virtual environment here, in its own place, with a Python new enough and pip."""
    script = (
        "import importlib.util, os, sys; print(os.path.realpath(sys.prefix), sys.version_info >= (3, 11)"
        " and sys.prefix != sys.base_prefix and importlib.util.find_spec('pip') is not None, sep=chr(10))"
    )
    try:
        done = subprocess.run([str(python_of(venv)), "-I", "-c", script], capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.splitlines() == [os.path.realpath(venv), "True"]


def remake(venv: Path, interpreter: str) -> None:
    """A new empty environment; what a broken one left is removed, but never a folder that is no environment."""
    if venv.exists() or venv.is_symlink():
        ours = venv.name == ".venv" or (venv / "pyvenv.cfg").exists() or (venv / STARTED).exists()
        if not ours or venv.is_symlink():
            raise InstallError(f"{venv} is there and is no virtual environment", "move it away or name another folder")
        say(f"{venv.name} is broken or half-made; making it anew")
        shutil.rmtree(venv) if venv.is_dir() else venv.unlink()
    say(f"making {venv.name}")
    done = subprocess.run([interpreter, "-m", "venv", str(venv)], check=False)
    if done.returncode or not works(venv):
        raise InstallError("python could not make a virtual environment", "on Debian or Ubuntu: apt-get install python3-venv")


def install_torch(venv: Path) -> None:
    """PyTorch, unless a suitable one is there. Says so before a GPU build is fetched for a machine without a GPU."""
    check = "import sys, importlib.metadata as m; sys.exit(tuple(int(x) for x in m.version('torch').split('.')[:2]) < (2, 6))"
    if subprocess.run([str(python_of(venv)), "-c", check], check=False, stderr=subprocess.DEVNULL).returncode == 0:
        return
    if index := os.environ.get("BAY_TORCH_INDEX"):
        say("installing PyTorch from BAY_TORCH_INDEX")
        if not pip(venv, "install", "--index-url", index, ANY_TORCH):
            raise InstallError("pip could not install PyTorch from BAY_TORCH_INDEX", "check the address, or unset BAY_TORCH_INDEX")
        return
    if not has_gpu() and brings_cuda(venv):
        say("this machine has no GPU, but its package index offers only the CUDA build of PyTorch (several GB).")
        say("To get the small CPU build: stop this, and see 'PyTorch without a GPU' in docs/get-started.md.")
    say(f"installing PyTorch ({TESTED_TORCH}, else {ANY_TORCH})")
    if not pip(venv, "install", TESTED_TORCH) and not pip(venv, "install", ANY_TORCH):
        raise InstallError("pip could not install PyTorch", "read pip's lines above; is a package index reachable?")


def brings_cuda(venv: Path) -> bool:
    """Whether pip would fetch CUDA libraries with PyTorch; False where pip cannot tell (the installation itself then speaks)."""
    command = [str(python_of(venv)), "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", TESTED_TORCH]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        names = [item["metadata"]["name"].lower() for item in json.loads(done.stdout)["install"]]
    except (ValueError, KeyError):
        return False
    return any(name.startswith(("nvidia-", "cuda-")) for name in names)


def has_gpu() -> bool:
    """An NVIDIA driver is loaded. (macOS and Windows need no distinction: their plain PyTorch is small.)"""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()


def pip(venv: Path, *arguments: str) -> bool:
    """Run the environment's own pip; True if it succeeded. It prints errors only."""
    fixed = ["--disable-pip-version-check", "--no-input", "-qq"]
    return subprocess.run([str(python_of(venv)), "-m", "pip", *fixed, *arguments], check=False).returncode == 0


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def say(text: str) -> None:
    print(f"[install] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
