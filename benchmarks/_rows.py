"""Rows of results, one a sample, kept as they come; and what question answering is judged by."""

from __future__ import annotations

import json
import string
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _data import data_folder
from _report import RESULTS, cpu, machine

from baywindow.bench import stats

ROWS = RESULTS / "rows"  # beside the tables made of them, so that a run goes on where it ended on another machine too


def shared_data() -> Path:
    """The folder with the real data sets; ends with one line if it is absent."""
    if (folder := data_folder()) is None:
        raise SystemExit("the real data is not here: set BAY_SHARED to the folder that holds data/locomo and data/leval")
    return folder


def shown(values: Sequence[float]) -> str:
    """``0.61 [0.52, 0.70] (n=109)``; without bounds where the bench's own report gives none."""
    if (found := stats.interval(values)) is None:
        return "–"
    bounds = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.mean:.2f}{bounds} (n={found.n})"


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and repeated white space: the usual question-answering form."""
    plain = "".join(" " if c in string.punctuation else c for c in text.lower())
    return " ".join(w for w in plain.split() if w not in ("a", "an", "the"))


def write(name: str, title: str, body: str, data: dict[str, Any], command: str, rows: Sequence[dict[str, Any]] = ()) -> None:
    """Write ``results/NAME.md`` for people and ``results/NAME.json`` for programs. ``rows`` tell what other machines they were made on."""
    RESULTS.mkdir(exist_ok=True)
    here = machine()
    packages = ", ".join(f"{k} {v}" for k, v in here["versions"].items())
    counts = Counter(row["processor"] for row in rows if "processor" in row)
    if set(counts) - {here["cpu"]}:
        told = ", ".join(f"{name} ({n})" for name, n in counts.most_common())
        body = f"Rows measured on: {told}.\n\n{body}"
    where = f"{here['cpu']}, {here['cores']} cores (shared, load {here['load'][0]} at the end), Python {here['python']}"
    text = f"# {title}\n\nPrinted by `{command}`. Machine: {where}. Versions: {packages}.\n\n{body}\n"
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(json.dumps({"command": command, **here, **data}, indent=1) + "\n", encoding="utf-8")
    print(text)


class Rows:
    """An append-only file of results, one JSON object a line: a run that was stopped goes on where it ended."""

    def __init__(self, path: Path, key: Callable[[dict[str, Any]], tuple[Any, ...]]) -> None:
        self.path = path
        self._key = key
        self._writing = threading.Lock()
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
        """Thread-safe. The row is kept with the processor it was measured on."""
        row = {"processor": cpu(), **row}
        with self._writing:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self.rows.append(row)
            self._have.add(self._key(row))
