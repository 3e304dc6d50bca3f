"""How few characters must change to make the reply the answer (rapidfuzz's indel ratio).

Trap, kept: LongBench compares code by ``fuzz.ratio``, which without its compiled helper is difflib's, another number for the same texts,
and rounds to whole percents. Ours is the compiled one's formula, not rounded: 1 - (insertions + deletions) / (both lengths).
"""

from __future__ import annotations

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics._words import best
from baywindow.errors import MissingExtraError

_NOT_CODE = ("`", "#", "//")  # a fence, a comment


def similarity(said: str, gold: str) -> float:
    """From 0 to 1. MissingExtraError without rapidfuzz."""
    try:
        from rapidfuzz.distance import Indel
    except ImportError:
        raise MissingExtraError.of("what compares texts by edits (rapidfuzz)", "bench") from None
    return float(Indel.normalized_similarity(said, gold))


@metric
def edit_similarity(reply: str, turn: Turn) -> float:
    """Similarity of the whole reply, blank edges apart."""
    return best(similarity, reply.strip(), [gold.strip() for gold in turn.gold])


@metric
def code_similarity(reply: str, turn: Turn) -> float:
    """Similarity of the reply's first line of code: one without a backtick, ``#`` or ``//`` (LongBench's rule). 0 if there is none."""
    line = next((line for line in reply.lstrip("\n").split("\n") if not any(mark in line for mark in _NOT_CODE)), "")
    return best(similarity, line, turn.gold) if line.strip() else 0.0
