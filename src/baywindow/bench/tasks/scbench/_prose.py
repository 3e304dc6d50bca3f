"""Things scattered in prose: chains of assignments (``vt``), and secret numbers among keys and values (``needles_and_kv``)."""

from __future__ import annotations

import itertools
import random
import uuid

from baywindow.bench.base import Order, Sample, Turn
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import prefix, rng_of, sized
from baywindow.bench.tasks._names import Fresh
from baywindow.bench.tasks.scbench._shared import overhead_of, shared, turns_of

VT = "Chains of variable assignments are hidden in the text below. Remember them: you will be asked which variables hold which value."
VT_QUESTION = "Which variables hold the value {value}, directly or through others? Name all {count} of them and nothing else."
MIXED = "Numbers of towns and a few keys with values are hidden in the text below. Remember them: you will be asked for them."
_HOPS = 2


def vt(order: Order) -> Sample:
    """One chain a turn, each of ``_HOPS`` hops, all of them mixed in one text."""
    name, count = "scbench.vt", turns_of(order)
    rng = rng_of(name, order)
    fresh, values = Fresh(rng), rng.sample(range(10_000, 99_999), count)
    placed: list[tuple[float, str]] = []
    turns: list[Turn] = []
    for value in values:
        names = [fresh.word().upper() for _ in range(_HOPS + 1)]
        lines = [f"VAR {names[0]} = {value}.", *(f"VAR {b} = VAR {a}." for a, b in itertools.pairwise(names))]
        depths = sorted(rng.random() for _ in lines)
        placed += zip(depths, lines, strict=True)
        question = VT_QUESTION.format(value=value, count=len(names))
        facts = {"depth": round(depths[-1], 4)}
        turns.append(Turn(question=question, gold=tuple(names), scorer="includes_all", max_new_tokens=48, metadata=facts))
    return _in_prose(order, name, placed=placed, instruction=VT, turns=turns)


def needles_and_kv(order: Order) -> Sample:
    """Turns ask for a town's number and for a key's value by turns, so that one context serves two kinds of retrieval."""
    name, count = "scbench.needles_and_kv", turns_of(order)
    rng = rng_of(name, order)
    fresh = Fresh(rng)
    placed: list[tuple[float, str]] = []
    turns: list[Turn] = []
    for i in range(count):
        depth = rng.random()
        text, question, gold = _number(fresh, rng) if i % 2 == 0 else _pair(rng)
        placed.append((depth, text))
        scorer = "scbench_number" if i % 2 == 0 else "scbench_has"
        facts = {"depth": round(depth, 4), "kind": "number" if i % 2 == 0 else "value"}
        turns.append(Turn(question=question, gold=(gold,), scorer=scorer, max_new_tokens=80, metadata=facts))
    return _in_prose(order, name, placed=placed, instruction=MIXED, turns=turns)


def _number(fresh: Fresh, rng: random.Random) -> tuple[str, str, str]:
    town, number = fresh.name(), str(rng.randint(10_000, 99_999))
    return f"The secret number of {town} is {number}.", f"What is the secret number of {town}? Reply with the number only.", number


def _pair(rng: random.Random) -> tuple[str, str, str]:
    key, value = (str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(2))
    return f'{{"{key}": "{value}"}}', f'Which value has the key "{key}"?', value


def _in_prose(order: Order, name: str, *, placed: list[tuple[float, str]], instruction: str, turns: list[Turn]) -> Sample:
    """The texts at their depths in the haystack. Those at one place keep the order given: a chain is told from its start."""
    overhead = overhead_of(order, instruction, turns[0].question, *(text for _, text in placed))

    def build(room: int) -> Sample:
        sentences = prefix(order.haystack.from_seed(order.seed), room - overhead, order.counter)
        return shared(order, context=" ".join(insert_at(sentences, placed)), instruction=instruction, turns=turns)

    return sized(name, order, build)
