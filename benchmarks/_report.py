"""Results that survive a stop: each part is kept as it is finished, and the tables are made from what is there."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"


class Parts:
    """Parts of one benchmark by name, in ``results/NAME.json``; a part that is there is not run again unless ``fresh``."""

    def __init__(self, name: str, *, only: Sequence[str] = (), fresh: bool = False) -> None:
        self.path = RESULTS / f"{name}.json"
        self.table: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        self._only = only
        self._fresh = fresh

    def run(self, name: str, part: Callable[[], Any]) -> None:
        if (self._only and name not in self._only) or (name in self.table and not self._fresh):
            return
        print(f"… {name}", flush=True)
        self.table[name] = {"result": part(), "machine": machine()}
        self.path.parent.mkdir(exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.table, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, self.path)

    def get(self, name: str) -> Any | None:
        return self.table[name]["result"] if name in self.table else None


def machine() -> dict[str, Any]:
    """What a figure depends on; ``load`` tells whether others were working on the machine."""
    packages = ("lancedb", "bm25s", "semantic-text-splitter", "pypdfium2", "sentence-transformers", "torch", "numpy")
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": [round(x, 1) for x in os.getloadavg()],
        "versions": {name: metadata.version(name) for name in packages},
    }


@cache
def cpu() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def interval(values: Sequence[float], *, seed: int = 0, rounds: int = 2000) -> tuple[float, float, float]:
    """Mean with a 95 % bootstrap interval."""
    array = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed).integers(0, len(array), (rounds, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), [2.5, 97.5])
    return float(array.mean()), float(low), float(high)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
