"""Needles: keys with values, hidden in repeated noise, in natural text, or among other needles (the eight ``niah_*`` tasks)."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import Drawn, Lengths, prefix, rng_of, sized, whole
from baywindow.bench.tasks.ruler._words import KINDS
from baywindow.documents.base import Document

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
INSTRUCTION = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you about the {kind} afterwards."
)
QUESTION = "What are all the special magic {kind} for {query} mentioned in the provided text?"
PREFIX = "The special magic {kind} for {query} mentioned in the provided text are"
INSTRUCTION_ONE = INSTRUCTION.replace("Some", "A").replace("are", "is")
QUESTION_ONE = QUESTION.replace("are all", "is")
PREFIX_ONE = PREFIX.replace("are", "is")
_TYPICAL = 256
DEPTHS = tuple(round(100 * i / 39) for i in range(40))  # per cent; the official 40 places


@dataclass(frozen=True, kw_only=True)
class Needles:
    """The official parameters of one task: how many keys, values of each, keys asked for, and of which kinds."""

    name: str
    haystack: str  # noise, essay or needle
    key_kind: str = "words"
    value_kind: str = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1

    @property
    def one(self) -> bool:
        """One value is asked for: the prompt is in the singular."""
        return self.values * self.queries == 1

    def __call__(self, order: Order) -> Sample:
        """One sample; ``order.depth`` places the needle that is asked for."""
        rng = rng_of(self.name, order)
        pairs = _pairs(self, rng)
        asked = rng.sample(sorted(pairs), self.queries)
        needles = [(key, NEEDLE.format(kind=self.value_kind, key=key, value=value)) for key in pairs for value in pairs[key]]
        rng.shuffle(needles)
        depths = _depths(self, order, rng, [key in asked for key, _ in needles])
        placed = [(depth, text) for depth, (_, text) in zip(depths, needles, strict=True)]
        kind = self.value_kind[:-1] if self.one else self.value_kind
        words = {"kind": kind, "query": _listed(asked)}
        instruction, question, start = (INSTRUCTION_ONE, QUESTION_ONE, PREFIX_ONE) if self.one else (INSTRUCTION, QUESTION, PREFIX)
        joint = " " if self.haystack == "essay" else "\n"
        filler = _Filler(self, order, frozenset(pairs))
        overhead = sum(order.counter("\n" + part) for part in (instruction.format(**words), question.format(**words)))
        overhead += sum(order.counter(joint + text) for _, text in placed)

        def build(room: int) -> Sample:
            units = filler.upto(room - overhead, joint)
            text = joint.join(insert_at(units, placed))
            return Sample(
                id="",
                documents=(Document(text, "haystack.txt"),),
                instruction=instruction.format(**words),
                question=question.format(**words),
                answer_prefix=start.format(**words),
                gold=tuple(value for key in asked for value in pairs[key]),
                scorer="includes_all",
                max_new_tokens=128,
                metadata={"depth": depths[[key in asked for key, _ in needles].index(True)], "depths": depths, "haystack": filler.name},
            )

        return sized(self.name, order, build)


class _Filler:
    """What the needles are hidden in, begun anew for each length asked for."""

    def __init__(self, task: Needles, order: Order, keys: frozenset[str]) -> None:
        self._order = order
        self._task = task
        self.name = order.haystack.name if task.haystack == "essay" else task.haystack
        rng = rng_of(task.name, order, "filler")

        def other() -> str:
            key = KINDS[task.key_kind](rng)
            while key in keys:
                key = KINDS[task.key_kind](rng)
            return _needle(task, key, rng)

        self._others: Drawn[str] = Drawn(other)

    def upto(self, room: int, joint: str) -> list[str]:
        if self._task.haystack == "needle":
            return whole(self._others, room, self._order.counter.once(("needles", self._task), self._lengths))
        if self._task.haystack == "noise":
            return noise(room, self._order, joint)
        return prefix(self._order.haystack.from_seed(self._order.seed), room, self._order.counter, joint)

    def _lengths(self) -> Lengths:
        rng = random.Random("typical needles")
        typical = [_needle(self._task, KINDS[self._task.key_kind](rng), rng) for _ in range(_TYPICAL)]
        return Lengths(typical, self._order.counter, "\n")


def _needle(task: Needles, key: str, rng: random.Random) -> str:
    return NEEDLE.format(kind=task.value_kind, key=key, value=KINDS[task.value_kind](rng))


def noise(room: int, order: Order, joint: str) -> list[str]:
    """The repeated line as often as it fits; the last one ends at one of its five sentences."""
    lines = prefix(itertools.repeat(NOISE), room, order.counter, joint)
    if lines and lines[-1] != NOISE:
        whole = lines[-1][: lines[-1].rfind(".") + 1]
        lines[-1:] = [whole] if whole else []
    return lines


def _pairs(task: Needles, rng: random.Random) -> dict[str, list[str]]:
    """Keys with their values, all different."""
    key, value = KINDS[task.key_kind], KINDS[task.value_kind]
    found: dict[str, list[str]] = {}
    while len(found) < max(task.keys, task.queries):
        found.setdefault(key(rng), [value(rng) for _ in range(task.values)])
    return found


def _depths(task: Needles, order: Order, rng: random.Random, asked: list[bool]) -> list[float]:
    """Where each needle goes, 0 to 1: in natural text at different ones of the 40 official places, else anywhere."""
    natural = task.haystack == "essay"
    depths = [d / 100 for d in rng.sample(DEPTHS, len(asked))] if natural else [rng.random() for _ in asked]
    if order.depth is not None:
        depths[asked.index(True)] = order.depth
    return [round(depth, 4) for depth in depths]


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:-1]) + ", and " + keys[-1] if len(keys) > 1 else keys[0]
