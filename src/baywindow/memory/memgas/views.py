"""A session as MemGAS sees it: four vectors side by side, and links between the vectors of different sessions.

The vectors of a described session are kept with its record, so that a question embeds nothing but itself and the session that is open;
those of another embedder are made again.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baywindow.memory.memgas.describe import SESSION
from baywindow.memory.memgas.graph import near
from baywindow.memory.records import Record, Turn
from baywindow.memory.work import Work

VIEWS = 4  # session, turns, summary, keywords


@dataclass(frozen=True, eq=False)
class View:
    """``turns`` are ids; ``vectors`` is (view, dim); ``record`` is None for a session that nobody has described yet."""

    turns: tuple[str, ...]
    vectors: NDArray[np.float32]
    record: Record | None = None


def described(work: Work) -> list[View]:
    """The sessions that have a record, oldest first."""
    records = sorted(work.records(SESSION), key=lambda record: record.said_at)
    return [View(record.turns, _kept(work, record), record) for record in records]


def undescribed(work: Work, session: Sequence[Turn]) -> View:
    """A session that has no record: its own words stand for summary and keywords."""
    return View(tuple(turn.id for turn in session), vectors_of(work, session, "", ""))


def vectors_of(work: Work, turns: Sequence[Turn], summary: str, keywords: str) -> NDArray[np.float32]:
    """The four views of a session, (view, dim); its own words stand for what is empty."""
    lines = [turn.line for turn in turns]
    whole = "\n".join(lines)
    made = work.embed([whole, summary or whole, keywords or whole, *lines])
    return np.stack([made[0], made[3:].mean(axis=0), made[1], made[2]])


def packed(work: Work, vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Vectors as a record's data holds them, in half precision."""
    return {"vectors": base64.b64encode(vectors.astype("<f2").tobytes()).decode("ascii"), "embedder": work.embedder}


def linked(new: View, older: Sequence[View], candidates: int) -> list[list[str | int]]:
    """Links from each view of a session to views of older ones: own view, the other's record, the other's view."""
    vectors = np.concatenate([view.vectors for view in older])
    made: list[list[str | int]] = []
    for own in range(VIEWS):
        for at in near((vectors @ new.vectors[own]).astype(np.float64), candidates):
            other = older[at // VIEWS].record
            if other is not None:
                made.append([own, other.id, at % VIEWS])
    return made


def links_of(views: Sequence[View]) -> NDArray[np.int64]:
    """All links as pairs of nodes, (link, 2); those to sessions that were forgotten are gone with them."""
    place = {view.record.id: at for at, view in enumerate(views) if view.record is not None}
    pairs = [
        (VIEWS * at + own, VIEWS * place[other] + its)
        for at, view in enumerate(views)
        if view.record is not None
        for own, other, its in view.record.data.get("links", ())
        if other in place
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _kept(work: Work, record: Record) -> NDArray[np.float32]:
    if record.data.get("embedder") == work.embedder:
        stored = np.frombuffer(base64.b64decode(record.data["vectors"]), dtype="<f2")
        return stored.reshape(VIEWS, -1).astype(np.float32)
    return vectors_of(work, work.turns(record.turns), record.text, ", ".join(record.data.get("keywords", ())))
