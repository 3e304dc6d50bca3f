"""Seconds until `bay ask` begins its reply, in processes of its own: the model loaded anew, kept, or behind a running server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _peer import PeerMissing, run_script

from baywindow import home
from baywindow.server.announced import running, stop_private

STARTER = Path(__file__).with_name("_ours_start.py")
STARTS = 3


def start() -> dict[str, Any]:
    """Seconds until `bay ask README.md` with the embedded model writes: the first run, which indexes the file, does not count; then the
    same beside a `bay serve` that has the model, where the first run, which has the server read the prompt's beginning, does not."""
    # As an installed package has it: compiled modules are kept, whatever this environment says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(home.cache_dir("bench") / "compiled")
    source = Path(__file__).resolve().parents[1] / "README.md"
    with tempfile.TemporaryDirectory() as folder:

        def run(*more: str) -> dict[str, Any]:
            return run_script(sys.executable, STARTER, str(time.time()), folder, source, *more)

        runs = [run("--no-server") for _ in range(STARTS + 1)][1:]
        with serving():
            served = [run() for _ in range(STARTS + 1)][1:]
        kept = [_kept(run) for _ in range(STARTS)]
    if not all(found["served"] for found in served):
        raise PeerMissing("`bay ask` did not use the running server")
    return {"runs": runs, "served": served, "kept": kept, "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))}


def _kept(run: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """A first `bay ask --keep`, which starts the server that keeps the model; the processor time is of `bay ask` alone."""
    try:
        return run("--keep", "1")
    finally:
        stop_private()
        while running():
            time.sleep(0.1)


@contextmanager
def serving() -> Iterator[None]:
    """A `bay serve` with the embedded model, from where it says that it listens."""
    command = "from baywindow.cli.main import app; app(['serve', '--model', 'embedded', '--port', '0'])"
    process = subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        if " at http" not in (process.stdout.readline() if process.stdout is not None else ""):
            raise PeerMissing("`bay serve` did not start")
        yield
    finally:
        process.terminate()
        process.communicate()
