"""Retrieval of strings that nothing but the text can tell: values by key, and whole strings by their two ends."""

from __future__ import annotations

import random
import string
import uuid

from baywindow.bench.base import Order, Sample, Turn
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._whole import Whole
from baywindow.bench.tasks.scbench._shared import overhead_of, shared, spread, turns_of

KV = "Below is a JSON object. Give the value of each key that is asked for."
KV_QUESTION = 'The key is "{key}". Which value does it have?'
ENDS = "Below is a list of strings, one a line. Give the whole string of which a beginning and an end are named."
ENDS_QUESTION = 'Which string begins with "{start}" and ends with "{end}"?'
_END = 4  # characters that name a string from either side


def kv(order: Order) -> Sample:
    """Universally unique keys and values, as many as fit."""
    name, count = "scbench.kv", turns_of(order)
    rng = rng_of(name, order)

    def one() -> str:
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    lines = Whole(lambda: f'"{one()}": "{one()}",', order.counter)
    overhead = overhead_of(order, KV, KV_QUESTION.format(key=lines.first(1)[0][1:37]), "{}")
    offset = rng_of(name, order, "offset").random()

    def build(room: int) -> Sample:
        taken = lines.upto(room - overhead)
        taken = taken if len(taken) >= count else lines.first(count)
        places = spread(count, len(taken), offset)
        turns = [_kv_turn(taken[i], i / len(taken)) for i in places]
        return shared(order, context="{\n" + "\n".join(taken).rstrip(",") + "\n}", instruction=KV, turns=turns)

    return sized(name, order, build)


def _kv_turn(line: str, depth: float) -> Turn:
    _, key, _, value, _ = line.split('"')
    return Turn(
        question=KV_QUESTION.format(key=key), gold=(value,), scorer="scbench_has", max_new_tokens=150, metadata={"depth": round(depth, 4)}
    )


def prefix_suffix(order: Order) -> Sample:
    """Every string shares its beginning with one other and its end with another, so that both must be looked at."""
    name, count = "scbench.prefix_suffix", turns_of(order)
    rng = rng_of(name, order)
    lines = Whole(_Ends(rng), order.counter)
    overhead = overhead_of(order, ENDS, ENDS_QUESTION.format(start="aB3x", end="9Zk2"))
    offset = rng_of(name, order, "offset").random()

    def build(room: int) -> Sample:
        taken = lines.upto(room - overhead)
        taken = taken if len(taken) >= count else lines.first(count)
        places = spread(count, len(taken), offset)
        order_of = rng_of(name, order, "shuffle")
        shown = order_of.sample(taken, len(taken))
        turns = [_ends_turn(shown[i], i / len(shown)) for i in places]
        return shared(order, context="\n".join(shown), instruction=ENDS, turns=turns)

    return sized(name, order, build)


class _Ends:
    """Draws strings of which each shares its start with the one before it or its end, in turns; no two share both."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._start, self._end = self._some(_END), self._some(_END)
        self._seen: set[tuple[str, str]] = set()
        self._flip = False

    def __call__(self) -> str:
        while (self._start, self._end) in self._seen:
            if self._flip:
                self._start = self._some(_END)
            else:
                self._end = self._some(_END)
            self._flip = not self._flip
        self._seen.add((self._start, self._end))
        return self._start + self._some(self._rng.randint(12, 40)) + self._end

    def _some(self, length: int) -> str:
        return "".join(self._rng.choices(string.ascii_letters + string.digits, k=length))


def _ends_turn(text: str, depth: float) -> Turn:
    question = ENDS_QUESTION.format(start=text[:_END], end=text[-_END:])
    return Turn(question=question, gold=(text,), scorer="scbench_has", max_new_tokens=150, metadata={"depth": round(depth, 4)})
