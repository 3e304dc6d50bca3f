"""A random table: columns of text, whole numbers and dates; values repeat in some columns and not in others."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from baywindow.bench.tasks._names import Fresh, word

TABLE = "my_table"
# The published shares of text, whole numbers and dates, and how likely a value repeats one above it, one of these a column.
_KINDS = (("varchar", 0.5), ("integer", 0.45), ("date", 0.05))
_REPEATS = (0.0, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Column:
    name: str
    kind: str  # varchar, integer or date: as SQL calls it
    repeats: float


def columns_of(count: int, rng: random.Random, repeating: bool) -> list[Column]:
    """At least three columns of text and two of numbers, so that every query shape finds what it needs."""
    kinds = ["varchar"] * 3 + ["integer"] * 2 + rng.choices([k for k, _ in _KINDS], [w for _, w in _KINDS], k=count - 5)
    rng.shuffle(kinds)
    fresh = Fresh(rng)
    repeats = [rng.choice(_REPEATS) if repeating else 0.0 for _ in kinds]
    if repeating:
        repeats[kinds.index("varchar")] = _REPEATS[-1]
    return [Column(fresh.word(), kind, repeat) for kind, repeat in zip(kinds, repeats, strict=True)]


class Rows:
    """Draws rows as lines of a Markdown table. A value that may not repeat is new to its column."""

    def __init__(self, columns: Sequence[Column], rng: random.Random) -> None:
        self._columns, self._rng = columns, rng
        self._known: list[list[str]] = [[] for _ in columns]
        self._seen: list[set[str]] = [set() for _ in columns]

    def __call__(self) -> str:
        return line(self._value(i) for i in range(len(self._columns)))

    def _value(self, i: int) -> str:
        column, rng = self._columns[i], self._rng
        if self._known[i] and rng.random() < column.repeats:
            return rng.choice(self._known[i])
        while (value := self._any(column.kind)) in self._seen[i]:
            pass
        self._seen[i].add(value)
        self._known[i].append(value)
        return value

    def _any(self, kind: str) -> str:
        rng = self._rng
        if kind == "varchar":
            return " ".join(word(rng) for _ in range(rng.choice((1, 1, 2))))
        if kind == "integer":
            return str(rng.randint(1, 99_999))
        return f"{rng.randint(1900, 2099)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def line(values: Iterable[str]) -> str:
    return "| " + " | ".join(values) + " |"


def cells(row: str) -> list[str]:
    """The values of a line of the table."""
    return row.strip("| ").split(" | ")


def head(columns: Sequence[Column]) -> list[str]:
    return [line([c.name for c in columns]), line(["---"] * len(columns))]
