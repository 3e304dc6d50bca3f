"""What every benchmark here shares: the data, the machine, intervals, and the two files a result is written to."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("baywindow", "lancedb", "torch", "transformers", "sentence-transformers", "bm25s")


def shared_data() -> Path:
    """The folder with the real data sets; BAY_SHARED names it, else ``../shared`` beside the checkout. Exits with a line if absent."""
    root = Path(os.environ.get("BAY_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (root / "data").is_dir():
        raise SystemExit(f"no data in {root / 'data'}: set BAY_SHARED to the folder that holds data/locomo and data/leval")
    return root / "data"


def machine() -> str:
    """One line: processor, cores, memory, Python."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
        memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()).group(1)) / 2**20  # type: ignore[union-attr]
        size = f", {memory:.0f} GiB"
    except OSError:
        size = ""
    return f"{model}, {os.cpu_count()} cores (shared){size}, {platform.system()}, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def interval(values: Sequence[float], draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean with its 95 % percentile-bootstrap interval: (mean, low, high); NaNs for no values."""
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        return (float("nan"),) * 3
    rng = np.random.default_rng(seed)
    means = data[rng.integers(0, data.size, (draws, data.size))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(data.mean()), float(low), float(high)


def shown(values: Sequence[float]) -> str:
    """``0.61 [0.52, 0.70] (n=109)``."""
    mean, low, high = interval(values)
    return f"{mean:.2f} [{low:.2f}, {high:.2f}] (n={len(values)})" if len(values) else "–"


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and repeated white space: the usual question-answering form."""
    plain = "".join(" " if c in string.punctuation else c for c in text.lower())
    return " ".join(w for w in plain.split() if w not in ("a", "an", "the"))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def write(name: str, title: str, body: str, data: dict[str, Any], command: str) -> None:
    """Write ``results/NAME.md`` for people and ``results/NAME.json`` for programs."""
    RESULTS.mkdir(exist_ok=True)
    packages = ", ".join(f"{k} {v}" for k, v in versions().items())
    text = f"# {title}\n\nPrinted by `{command}`. Machine: {machine()}. Versions: {packages}.\n\n{body}\n"
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    record = {"command": command, "machine": machine(), "versions": versions(), **data}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")
    print(text)


class Rows:
    """An append-only file of results, one JSON object a line: a run that was stopped goes on where it ended."""

    def __init__(self, path: Path, key: Callable[[dict[str, Any]], tuple[Any, ...]]) -> None:
        self.path = path
        self._key = key
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    self.rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue  # the line that a kill cut short
        self._have = {key(row) for row in self.rows}

    def has(self, row: dict[str, Any]) -> bool:
        return self._key(row) in self._have

    def add(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(row)
        self._have.add(self._key(row))
