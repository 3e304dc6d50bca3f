"""A virtual environment of its own for LlamaIndex, made under the user's cache folder with pinned versions."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import platformdirs

PINS = ("llama-index-core==0.14.25", "llama-index-retrievers-bm25==0.8.0")
SCRIPT = Path(__file__).with_name("_peer_llamaindex.py")


class PeerMissing(RuntimeError):  # noqa: N818 - a state, reported in the table
    """The environment could not be made; the message says why."""


def interpreter() -> Path:
    """Its python, made on first use. It borrows torch and sentence-transformers from this environment, so both embed with the same code."""
    folder = Path(platformdirs.user_cache_dir("baywindow")) / "bench" / "llamaindex"
    python = folder / "bin" / "python"
    if (folder / ".ready").is_file() and (folder / ".ready").read_text() == " ".join(PINS):
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, text=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PINS], check=True, capture_output=True, text=True)
    except (subprocess.CalledProcessError, OSError) as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        raise PeerMissing(f"LlamaIndex could not be installed: {' '.join(detail)}") from error
    site = subprocess.run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True)
    (Path(site.stdout.strip()) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / ".ready").write_text(" ".join(PINS))
    return python


def run_peer(*args: str | Path) -> dict[str, Any]:
    return run_script(interpreter(), SCRIPT, *args)


def run_script(python: str | Path, script: Path, *args: str | Path) -> dict[str, Any]:
    """What a worker printed behind RESULT; its last words if it failed."""
    done = subprocess.run([str(python), str(script), *map(str, args)], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise PeerMissing(f"{script.name} failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return found
