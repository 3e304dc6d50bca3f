"""What the tasks of a shared context have in common: one context, several turns, and in which of two ways they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from baywindow.bench.base import Order, Sample, Turn
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

OPTIONS = {"turns": 5, "mode": "multi_request"}
MODES = ("multi_turn", "multi_request")


def turns_of(order: Order, least: int = 1) -> int:
    """How many questions; ConfigError if not a whole number from ``least`` on."""
    turns = order.options.get("turns", OPTIONS["turns"])
    if not isinstance(turns, int) or turns < least:
        raise ConfigError.bad_value("turns", turns, f"a whole number from {least} on")
    return turns


def mode_of(order: Order) -> str:
    mode = order.options.get("mode", OPTIONS["mode"])
    if mode not in MODES:
        raise ConfigError.bad_value("mode", mode, " or ".join(MODES))
    return str(mode)


def shared(order: Order, *, context: str, instruction: str, turns: Sequence[Turn]) -> Sample:
    """One document and all its questions, in one of two modes:

    ``multi_request``: each meets the context alone;
    ``multi_turn``: each stands behind those before it and their gold answers.

    In both, the runner asks every question of a copy of the context's cache, so that nothing that compressed it has seen a question.
    """
    if mode_of(order) == "multi_turn":
        turns = [behind(turns[:i], turn) for i, turn in enumerate(turns)]
    first = turns[0]
    return Sample(
        id="",
        documents=(Document(context, "context.txt"),),
        instruction=instruction,
        question=first.question,
        gold=first.gold,
        scorer=first.scorer,
        answer_prefix=first.answer_prefix,
        max_new_tokens=first.max_new_tokens,
        turns=tuple(turns[1:]),
        metadata={"mode": mode_of(order), "turns": len(turns), "haystack": order.haystack.name, **first.metadata},
    )


def behind(earlier: Sequence[Turn], turn: Turn) -> Turn:
    """The turn with what was asked and rightly answered before it as the beginning of its question."""
    said = [f"{t.question}\n{t.answer_prefix}{' ' if t.answer_prefix else ''}{', '.join(t.gold)}\n\n" for t in earlier]
    return replace(turn, question="".join(said) + turn.question, metadata={**turn.metadata, "question": turn.question})


def overhead_of(order: Order, *parts: str) -> int:
    return sum(order.counter("\n" + part) for part in parts)


def spread(count: int, size: int, offset: float) -> list[int]:
    """``count`` different indices below ``size``, evenly apart, in an order that jumps back and forth: a turn is far from the last."""
    step = size / count
    even = [int(i * step + offset * step) for i in range(count)]
    return [even[i] for i in (*range(1, count, 2), *range(0, count, 2))]
