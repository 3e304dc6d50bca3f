"""LooGLE's own scores: masked entities, and events in order."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence

from baywindow.bench.base import Turn, metric


@metric
def loogle_cloze(reply: str, turn: Turn) -> float:
    """Share of masks whose entity is given exactly."""
    gold, said = _table(turn.gold[0]), _table(reply)
    return sum(said.get(mask) == entity for mask, entity in gold.items()) / len(gold) if gold else 0.0


@metric
def loogle_cloze_partial(reply: str, turn: Turn) -> float:
    """Share of masks for which at least one word of the entity is given."""
    gold, said = _table(turn.gold[0]), _table(reply)
    return sum(bool(set(entity.split()) & set(said.get(mask, "").split())) for mask, entity in gold.items()) / len(gold) if gold else 0.0


@metric
def loogle_timeline(reply: str, turn: Turn) -> float:
    """1 - mean squared displacement over the largest there is. A wrong number of events, or one named twice, scores 0."""
    places = _places(reply, turn)
    n = len(places)
    return 1 - sum((p - i) ** 2 for i, p in enumerate(places)) / n / _largest_square(n) if n > 1 else float(n)


@metric
def loogle_displacement(reply: str, turn: Turn) -> float:
    """1 - mean displacement over the largest there is (n squared over 2, rounded down, over n)."""
    places = _places(reply, turn)
    n = len(places)
    return 1 - sum(abs(p - i) for i, p in enumerate(places)) / (n * n // 2) if n > 1 else float(n)


@metric
def loogle_swaps(reply: str, turn: Turn) -> float:
    """1 - swaps of two events that would mend the order, over the largest number (n - 1)."""
    places = _places(reply, turn)
    n = len(places)
    return 1 - (n - _cycles(places)) / (n - 1) if n > 1 else float(n)


def is_timeline(kind: str) -> bool:
    """Whether a question's type is the reordering of a timeline."""
    return "reorder" in kind.lower() or "timeline" in kind.lower()


def roman_numerals(text: str) -> list[str]:
    """Roman numerals that stand alone, as they come. "I" is one, so whole sentences can fool this, as they do the published code."""
    return re.findall(r"\b[IVXLCDM]+\b", text)


def _table(text: str) -> dict[str, str]:
    """The first object in braces, as JSON or as a Python literal; empty if there is none. Nothing is run."""
    found = re.search(r"\{.*?\}", text, re.DOTALL)
    if not found:
        return {}
    for parse in (json.loads, ast.literal_eval):
        try:
            table = parse(found.group())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(table, dict):
            return {str(k): str(v) for k, v in table.items()}
    return {}


def _places(reply: str, turn: Turn) -> list[int]:
    """For each event of the gold order its place in the reply's; empty if the reply is no order of the same events."""
    gold, said = roman_numerals(turn.gold[0]), roman_numerals(reply)
    if len(set(gold)) != len(gold) or sorted(gold) != sorted(said):
        return []
    return [said.index(event) for event in gold]


def _largest_square(n: int) -> float:
    """Of all orders the reverse is the worst: the mean of (n - 1 - 2 i) squared is (n squared - 1) / 3."""
    return (n * n - 1) / 3


def _cycles(places: Sequence[int]) -> int:
    seen: set[int] = set()
    count = 0
    for start in range(len(places)):
        count += start not in seen
        at = start
        while at not in seen:
            seen.add(at)
            at = places[at]
    return count
