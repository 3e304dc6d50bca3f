"""Token lengths by one model's tokenizer, and texts made to a length.

A tokenizer is not additive: two texts joined may count one token fewer or more than their sum. Everything here estimates by parts, which
are counted once and remembered, and checks the whole in the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar, cast

T = TypeVar("T")

# A generated sample is this close to the length asked for.
TOLERANCE = 0.02
_REMEMBERED_CHARACTERS = 400  # short units recur; whole haystacks do not


class TokenCounter:
    """Counts tokens of plain text and remembers short ones. ``name`` says whose tokenizer it is: samples are cached under it."""

    def __init__(self, count: Callable[[str], int], name: str) -> None:
        self._count = count
        self.name = name
        self._known: dict[str, int] = {}
        self._made: dict[Hashable, object] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once for this tokenizer: for measures of it that depend on nothing else."""
        if key not in self._made:
            self._made[key] = make()
        return cast("T", self._made[key])

    def __call__(self, text: str) -> int:
        if len(text) > _REMEMBERED_CHARACTERS:
            return self._count(text)
        if text not in self._known:
            self._known[text] = self._count(text)
        return self._known[text]


def most(build: Callable[[int], str], tokens: int, counter: TokenCounter, start: int = 8) -> int:
    """The largest n with ``counter(build(n)) <= tokens``, for a text that grows with n; 0 if not even ``build(1)`` fits.

    Interpolates between the nearest known lengths, so that a handful of counts is enough also at 128k tokens.
    """
    low, low_tokens = 0, counter(build(0))
    guess, high, high_tokens = start, 0, 0
    while True:
        if high and high - low <= 1:
            return low
        length = counter(build(guess))
        if length <= tokens:
            low, low_tokens = guess, length
        else:
            high, high_tokens = guess, length
        if not high:
            per_unit = max((low_tokens - counter(build(0))) / max(low, 1), 1e-3)
            guess = low + max(1, int((tokens - low_tokens) / per_unit))
        else:
            share = (tokens - low_tokens) / max(high_tokens - low_tokens, 1)
            guess = min(max(low + round(share * (high - low)), low + 1), high - 1)


def take(units: Iterable[str], tokens: int, counter: TokenCounter, joint: str = " ") -> list[str]:
    """Units from the start of ``units`` whose joined length is at most ``tokens`` and near to it; the last may be cut at a word.

    Counts each unit once, then corrects by counting the whole; ends early if the units run out.
    """
    source, taken, total = iter(units), [], 0
    for unit in source:
        taken.append(unit)
        total += counter(unit + joint)
        if total >= tokens:
            break
    while taken:
        whole = counter(joint.join(taken))
        if whole <= tokens:
            more = next(source, None)
            if more is None or tokens - whole <= max(2, tokens // 200):
                return taken
            taken.append(more)
            if counter(joint.join(taken)) <= tokens:
                continue
        shorter = cut(taken[-1], counter(taken[-1]) - (counter(joint.join(taken)) - tokens), counter)
        taken = [*taken[:-1], shorter] if shorter else taken[:-1]
        if shorter and counter(joint.join(taken)) <= tokens:
            return taken
    return taken


def cut(text: str, tokens: int, counter: TokenCounter) -> str:
    """The longest start of a text, ending at a word, that has at most ``tokens`` tokens; empty if no word fits."""
    if tokens <= 0:
        return ""
    if counter(text) <= tokens:
        return text.rstrip()
    ends = [m.end() for m in re.finditer(r"\S+", text)]
    n = most(lambda k: text[: ends[min(k, len(ends)) - 1]] if k and ends else "", tokens, counter) if ends else 0
    return text[: ends[min(n, len(ends)) - 1]] if n else ""


def insert_at(units: Sequence[str], placed: Sequence[tuple[float, str]]) -> list[str]:
    """Put texts between units at depths from 0 (before all) to 1 (after all). Those of one depth keep their order."""
    at: dict[int, list[str]] = {}
    for depth, text in placed:
        at.setdefault(round(depth * len(units)), []).append(text)
    made: list[str] = []
    for i in range(len(units) + 1):
        made += at.get(i, [])
        made += units[i : i + 1]
    return made
