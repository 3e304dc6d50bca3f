"""Samples made to a length: a builder says what it would put into a room of so many tokens, and is corrected until the whole fits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import REMEMBERED_CHARACTERS, TOLERANCE, TokenCounter, cut, insert_at
from baywindow.errors import ConfigError

T = TypeVar("T")
_TRIES = 16
_LONG = 200  # characters; what is longer tells how long a character is, in tokens
_COUNTED = 64
_MEASURED = 128
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
    """Units from the start whose token counts, each taken with the joint before it, sum to about ``room``; the last is cut at a word.

    Counts are exact up to `_COUNTED` long units (short ones are counted once and remembered); from there on their length tells enough.
    """
    taken: list[str] = []
    characters = tokens = long = 0
    joint_after = f".{joint}"  # tokenizers join a line break to the full stop before it
    alone = counter(".")
    for unit in units:
        if len(joint_after + unit) <= REMEMBERED_CHARACTERS or long < _COUNTED:
            cost = counter(joint_after + unit) - alone
            if len(unit) > _LONG:
                long, characters, tokens = long + 1, characters + len(joint + unit), tokens + cost
        else:
            cost = round(len(joint + unit) * tokens / characters)
        if cost > room:
            part = cut(unit, room - counter(joint), counter)
            return [*taken, part] if part else taken
        taken.append(unit)
        room -= cost
    return taken


def whole(drawn: Drawn[str], room: int, counter: TokenCounter, joint: str) -> list[str]:
    """Units that are never cut, together about ``room`` tokens long.

    Their mean length is measured on the first `_MEASURED`. A room for fewer is filled exactly, since there a unit is a large part of it:
    units taken are exchanged for longer ones until the gap is as small as it gets.
    """
    units = drawn.endless()
    first = [next(units) for _ in range(_MEASURED)]
    costs = [counter(f".{joint}{unit}") - counter(".") for unit in first]
    if room > sum(costs) * 3 // 4:
        return list(itertools.islice(drawn.endless(), round(room / (sum(costs) / len(costs)))))
    count = next(n for n in range(len(costs)) if sum(costs[: n + 1]) > room)
    taken, spare = list(range(count)), list(range(count, len(costs)))
    gap = room - sum(costs[:count])
    while gap > 0 and taken:
        gains = ((costs[j] - costs[i], x, y) for x, i in enumerate(taken) for y, j in enumerate(spare) if costs[j] - costs[i] <= gap)
        gain, x, y = max(gains, default=(0, 0, 0))
        if gain <= 0:
            break
        taken[x], spare[y], gap = spare[y], taken[x], gap - gain
    return [first[i] for i in taken]


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
