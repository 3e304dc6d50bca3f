"""What a report is made of, apart from how it is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from baywindow.bench.stats import Difference, Interval

NOTHING = "–"
SAME = "no difference"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A heading, a paragraph, a table or a figure; only the fields of its kind are set. Texts are plain, never markup."""

    kind: Literal["heading", "text", "table", "figure"]
    text: str = ""  # of a figure: what it shows
    level: int = 2
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    name: str = ""
    svg: str = ""
    png: bytes = b""


def heading(text: str, level: int = 2) -> Block:
    return Block(kind="heading", text=text, level=level)


def words(text: str) -> Block:
    return Block(kind="text", text=text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Block:
    return Block(kind="table", header=tuple(header), rows=tuple(tuple(row) for row in rows))


def with_interval(found: Interval | None, digits: int = 2, scale: float = 1.0) -> str:
    """``0.43 [0.31, 0.56] (50)``: mean, interval, number of samples."""
    if found is None:
        return NOTHING
    mean = f"{found.mean * scale:.{digits}f}"
    if found.low is None or found.high is None:
        return f"{mean} ({found.n})"
    return f"{mean} [{found.low * scale:.{digits}f}, {found.high * scale:.{digits}f}] ({found.n})"


def with_sign(found: Difference | None, digits: int = 2) -> str:
    """A difference with its interval, or that there is none to be seen."""
    if found is None:
        return NOTHING
    if not found.seen:
        few = "" if found.interval.low is not None else f" ({found.interval.n})"
        return SAME if not few else f"too few{few}"
    low, high = found.interval.low or 0.0, found.interval.high or 0.0
    p = "p<0.001" if found.p < 0.001 else f"p={found.p:.3f}"
    return f"{found.interval.mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] {p}"


def number(value: float | None, digits: int = 1, scale: float = 1.0) -> str:
    return NOTHING if value is None else f"{value * scale:,.{digits}f}"
