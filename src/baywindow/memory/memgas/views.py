"""A session as MemGAS sees it: four vectors side by side, and links between the vectors of different sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baywindow.memory.memgas.describe import SESSION
from baywindow.memory.memgas.graph import near
from baywindow.memory.records import Record, Turn
from baywindow.memory.work import Work

VIEWS = 4  # session, turns, summary, keywords


@dataclass(frozen=True, eq=False)
class View:
    """``vectors`` is (view, dim); ``record`` is None for a session that nobody has described yet."""

    turns: tuple[Turn, ...]
    vectors: NDArray[np.float32]
    record: Record | None


def sessions_seen(work: Work, undescribed: Sequence[Sequence[Turn]]) -> list[View]:
    """The described sessions, oldest first, and some that are not."""
    records = sorted(work.records(SESSION), key=lambda record: record.said_at)
    said = {turn.id: turn for turn in work.turns([i for record in records for i in record.turns])} if records else {}
    found: list[tuple[tuple[Turn, ...], Record | None]] = [(tuple(said[i] for i in r.turns if i in said), r) for r in records]
    found += [(tuple(turns), None) for turns in undescribed]
    found = [(turns, record) for turns, record in found if turns]
    texts = [text for turns, record in found for text in _texts(turns, record)]
    vectors = iter(work.embed(texts))
    made = []
    for turns, record in found:
        whole, summary, keywords = (next(vectors) for _ in range(3))
        mean = np.stack([next(vectors) for _ in turns]).mean(axis=0)
        made.append(View(turns, np.stack([whole, mean, summary, keywords]), record))
    return made


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


def _texts(turns: Sequence[Turn], record: Record | None) -> list[str]:
    """What is embedded of a session: whole, summary, keywords, and each turn."""
    lines = [turn.line for turn in turns]
    whole = "\n".join(lines)
    keywords = ", ".join(record.data.get("keywords", ())) if record else ""
    return [whole, record.text if record else whole, keywords or whole, *lines]
