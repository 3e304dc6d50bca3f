"""Demonstrations that stand before a HELMET task: where they come from and how they are drawn."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from baywindow.bench.tasks._loading import Row, found, rows_of
from baywindow.bench.tasks.helmet._tables import Part
from baywindow.errors import SourceError


def examples(part: Part, path: Path | None) -> list[Row]:
    """Rows that demonstrations are taken from; none if the person gave the test file alone."""
    if not part.demos or path is None or path.is_file():
        return []
    try:
        return list(rows_of(found(path, (part.demos,), "")))
    except SourceError:
        return []


def seeded(key: str, seed: int = 42) -> random.Random:
    """The same draws for the same question, in every process."""
    return random.Random((int(sha256(key.encode("utf-8")).hexdigest(), 16) + seed) % 2**31)


def balanced(rows: Sequence[Row], count: int, draw: random.Random) -> list[Row]:
    """``count`` rows in rounds, each round one row of every label in a new order; a label with too few rows repeats them."""
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        by_label.setdefault(row.text("label"), []).append(row)
    rounds = math.ceil(count / len(by_label)) if by_label else 0
    drawn = {name: _repeated(found_rows, rounds, draw) for name, found_rows in sorted(by_label.items())}
    chosen: list[Row] = []
    for i in range(rounds):
        one_each = [found_rows[i] for found_rows in drawn.values()]
        draw.shuffle(one_each)
        chosen += one_each
    return chosen[:count]


def with_shown(instruction: str, shown: str) -> str:
    """An instruction and the demonstrations behind it, if there are any."""
    return f"{instruction}\n\n{shown}\n" if shown else instruction


def _repeated(rows: Sequence[Row], count: int, draw: random.Random) -> list[Row]:
    chosen: list[Row] = []
    while len(chosen) < count:
        chosen += draw.sample(rows, min(len(rows), count - len(chosen)))
    return chosen
