"""A rival in an environment of its own, as a process that answers JSON lines: pinned versions beside ours, one model loaded once.

The rival's file is run by the environment's Python with arguments of its own, often MODEL_FOLDER and DTYPE; it reads one JSON request a
line and answers with one JSON line. It may import this module, which needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Worker:
    """A running worker. `ask` returns its answer, or an ``error`` in the rival's own words."""

    def __init__(self, python: Path, script: str, *args: str | Path) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [str(python), script, *map(str, args)]
        self._process = subprocess.Popen(
            command, text=True, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            return {"error": f"the worker ended with code {self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)


def made_environment(name: str, folder: Path, pins: Sequence[str], torch_version: str | None) -> Path | str:
    """The Python of an environment, made on first use, with this torch if one is named; or one line saying why there is none."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "complete"
    if done.exists():
        return python
    print(f"making an environment for {name} in {folder} (once)", flush=True)
    wanted = [*pins, *([f"torch=={torch_version.partition('+')[0]}"] if torch_version else [])]
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "--quiet", *wanted]):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            return f"no environment for {name}: {made.stderr.strip().splitlines()[-1]}"
    done.touch()
    return python
