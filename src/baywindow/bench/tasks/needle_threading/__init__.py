"""Needle Threading: look up one value or many, or follow threads in which a value is the next key.

Paper: Roberts et al. 2024, Needle Threading: Can LLMs Follow Threads through Near-Million-Scale Haystacks? (arXiv 2411.05000). The
description in jonathan-roberts1/needle-threading was read; it has no generator.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from baywindow.bench.base import Generated, Order, Sample, Suite, Turn, metric
from baywindow.bench.tasks.needle_threading._tasks import branched, conditional, multi, multi_threads, single, threads

__all__ = ["SUITE"]

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def _said(reply: str) -> list[str]:
    return [found.lower() for found in _UUID.findall(reply)]


@metric
def needle_threading_list(reply: str, turn: Turn) -> float:
    """Share of places at which the identifiers of the reply, in order, are the gold ones; more of them than gold lowers it."""
    said = _said(reply)
    right = sum(a == b for a, b in zip(said, turn.gold, strict=False))
    return right / max(len(said), len(turn.gold))


@metric
def needle_threading_set(reply: str, turn: Turn) -> float:
    """Identifiers both in the reply and gold, over those in either."""
    said, gold = set(_said(reply)), set(turn.gold)
    return len(said & gold) / len(said | gold)


_PLACED = {"needles": 5, "placement": "random"}
_THREAD = {"length": 4, "direction": "forward"}
_TASKS: tuple[tuple[str, str, Callable[[Order], Sample], dict[str, object], int, str], ...] = (
    ("single", "the value of one key", single, {}, 2048, "list"),
    ("multi", "the values of several keys", multi, _PLACED, 2048, "list"),
    ("conditional", "the values of all keys with a mark in them", conditional, _PLACED, 2048, "set"),
    ("threads", "the end of a thread in which each value is the next key", threads, _THREAD, 2048, "list"),
    ("multi_threads", "the ends of several threads at once", multi_threads, {"threads": 3, **_THREAD}, 2048, "list"),
    ("branched", "the end of the longest branch of a thread with dead ends", branched, {"branches": 2, **_THREAD}, 2048, "list"),
)

SUITE = Suite(
    name="needle_threading",
    summary="values and threads in a JSON object of random identifiers",
    paper="arXiv 2411.05000",
    year=2024,
    claim="accuracy falls with thread length and backward direction, while following several threads at once costs little",
    departures=(
        "the length counts tokens of the model's tokenizer; the published sets count characters",
        "an identifier is found in the reply by its form; the published way reads the reply as a literal and fails on prose",
        "extra identifiers in a reply lower the score; in the published way they do not",
        "questions say in our words what the published ones say",
        "branched is in the paper, not in the published data: here a key of the thread stands there again with a value that ends it",
    ),
    tasks=tuple(
        Generated(
            name=f"needle_threading.{name}",
            summary=summary,
            scorer=f"needle_threading_{scorer}",
            max_new_tokens=384,
            options=options,
            build=build,
            min_tokens=least,
            has_depth=name == "single",
        )
        for name, summary, build, options, least, scorer in _TASKS
    ),
)
