"""Samples made to a length: a builder says what it would put into a room of so many tokens, and is corrected until the whole fits."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import TOLERANCE, TokenCounter, cut, insert_at
from baywindow.errors import ConfigError

T = TypeVar("T")
_TRIES = 16
_MANY = 50  # of more units than these, one is less than the tolerance
_SPARE = 32
_CLOSE = 0.8 * TOLERANCE  # near enough not to count the whole again


def rng_of(task: str, order: Order, purpose: str = "") -> random.Random:
    """Random numbers that depend on nothing but the order, in every process."""
    return random.Random(f"{task}:{order.seed}:{order.tokens}:{purpose}")


def sized(task: str, order: Order, build: Callable[[int], Sample]) -> Sample:
    """The sample that ``build(room)`` makes, with ``room`` steered until the prompt measures at most, and nearly, ``order.tokens``.

    ``build`` must be deterministic and need not be exact: it estimates by parts. Each round counts the whole prompt once. The sample gets
    its id and the metadata that every task has. ConfigError if nothing that ``build`` makes is short enough.
    """
    room = order.tokens - max(1, order.tokens // 200)
    best: tuple[int, Sample] | None = None
    tried: set[int] = set()
    for _ in range(_TRIES):
        made = build(room)
        tried.add(room)
        length = order.counter(made.prompt)
        if length <= order.tokens and (best is None or length > best[0]):
            best = (length, made)
        if best is not None and best[0] >= (1 - _CLOSE) * order.tokens:
            break
        room += order.tokens - max(1, order.tokens // 200) - length
        if room in tried:  # the parts are coarse here: look between
            room += 1 if length <= order.tokens else -1
    if best is None:
        raise ConfigError(f"{task} does not fit into {order.tokens} tokens", hint="ask for a longer context")
    length, made = best
    facts = {"task": task, "length": order.tokens, "tokens": length, "seed": order.seed}
    return replace(made, id=sample_id(task, order), metadata={**facts, **made.metadata})


def sample_id(task: str, order: Order) -> str:
    """Different for different orders of one tokenizer and haystack."""
    parts = [task, f"{order.tokens}", f"seed{order.seed}"]
    parts += [f"depth{order.depth:g}"] if order.depth is not None else []
    return "/".join(parts + [f"{name}={order.options[name]}" for name in sorted(order.options)])


def prefix(units: Iterable[str], room: int, counter: TokenCounter, joint: str = " ") -> list[str]:
    """Units from the start whose token counts, each taken with the joint before it, sum to at most ``room``; the last is cut at a word.

    For units that recur, such as the sentences of a haystack: each is counted once for a tokenizer.
    """
    taken: list[str] = []
    before = f".{joint}"  # tokenizers join a line break to the full stop before it
    alone = counter(".")
    for unit in units:
        text = before + unit
        cost = counter.once(text, functools.partial(counter, text)) - alone
        if cost > room:
            part = cut(unit, room - counter(joint), counter)
            return [*taken, part] if part else taken
        taken.append(unit)
        room -= cost
    return taken


class Lengths:
    """Tokens of units of one kind told from their characters and digits, by least squares over typical units counted once.

    Units that never recur, such as random identifiers, would cost as much to count singly as the whole text does.
    """

    def __init__(self, typical: Sequence[str], counter: TokenCounter, joint: str) -> None:
        self._counter, self._joint = counter, joint
        counts = [self.exact(unit) for unit in typical]
        features = np.array([self._features(unit) for unit in typical])
        self._weights: list[float] = np.linalg.lstsq(features, np.array(counts, dtype=float), rcond=None)[0].tolist()

    def __call__(self, unit: str) -> float:
        return sum(w * x for w, x in zip(self._weights, self._features(unit), strict=True))

    def exact(self, unit: str) -> int:
        """Counted."""
        return self._counter(f".{self._joint}{unit}") - self._counter(".")

    @staticmethod
    def _features(unit: str) -> tuple[float, float, float]:
        return 1.0, float(len(unit)), float(sum(map(unit.count, "0123456789")))


def whole(drawn: Drawn[str], room: int, lengths: Lengths) -> list[str]:
    """Units that are never cut, together about ``room`` tokens long by ``lengths``.

    Where a unit is a large part of the room, all are counted, and exchanged for longer ones until the gap is as small as it gets.
    """
    if lengths(next(drawn.endless())) * _MANY > room:
        return _exchanged(drawn, room, lengths)
    taken: list[str] = []
    left = float(room)
    for unit in drawn.endless():
        left -= lengths(unit)
        if left < 0:
            break
        taken.append(unit)
    return taken


def _exchanged(drawn: Drawn[str], room: int, lengths: Lengths) -> list[str]:
    taken: list[str] = []
    costs: list[int] = []
    for unit in drawn.endless():
        cost = lengths.exact(unit)
        if cost > room - sum(costs):
            break
        taken.append(unit)
        costs.append(cost)
    left = room - sum(costs)
    spare = list(itertools.islice(drawn.endless(), len(taken), len(taken) + (_SPARE if len(taken) > _SPARE else 3 * _SPARE)))
    longer = [lengths.exact(unit) for unit in spare]
    while True:
        gains = ((b - a, x, y) for x, a in enumerate(costs) for y, b in enumerate(longer) if b - a <= left)
        gain, x, y = max(gains, default=(0, 0, 0))
        if gain < 1:
            return taken
        taken[x], spare[y], costs[x], longer[y], left = spare[y], taken[x], longer[y], costs[x], left - gain


def insert_by_length(units: Sequence[str], placed: Sequence[tuple[float, str]]) -> list[str]:
    """As `insert_at`, but depth is a share of the characters, not of the units: between the two units nearest to it."""
    ends = [0, *itertools.accumulate(len(unit) + 1 for unit in units)]
    nearest = [min(range(len(ends)), key=lambda i: abs(ends[i] - depth * ends[-1])) for depth, _ in placed]
    return insert_at(units, [(i / max(len(units), 1), text) for i, (_, text) in zip(nearest, placed, strict=True)])


class Drawn(list[T]):
    """A list that grows by drawing, so that what stands at an index never depends on how many were asked for before."""

    def __init__(self, draw: Callable[[], T]) -> None:
        super().__init__()
        self._draw = draw

    def endless(self) -> Iterator[T]:
        n = 0
        while True:
            if n == len(self):
                self.append(self._draw())
            yield self[n]
            n += 1
