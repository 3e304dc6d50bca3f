"""A JSON object of key-value pairs as the haystack: some pairs at stated depths, the rest drawn until the length is reached."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import Drawn, Lengths, rng_of, sized, whole
from baywindow.documents.base import Document


def a_uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def uuid_pair(rng: random.Random) -> str:
    return f'"{a_uuid(rng)}": "{a_uuid(rng)}"'


class Others(NamedTuple):
    """The pairs that fill the object: how one is drawn, and how one is drawn that is as long but the same for every order."""

    draw: Callable[[random.Random], str]
    typical: Callable[[random.Random], str]
    joint: str = ", "


UUIDS = Others(uuid_pair, uuid_pair)


def among_pairs(task: str, order: Order, made: Sample, placed: Sequence[tuple[float, str]], others: Others) -> Sample:
    """``made`` with one document, a JSON object that holds the ``placed`` pairs between as many others as fit. Adds their number."""
    rng, joint = rng_of(task, order, "others"), others.joint
    drawn: Drawn[str] = Drawn(lambda: others.draw(rng))
    lengths = order.counter.once((others.typical, joint), lambda: _lengths(others, order))
    overhead = order.counter(made.instruction) + order.counter(made.question) + sum(order.counter(joint + text) for _, text in placed) + 4

    def build(room: int) -> Sample:
        units = insert_at(whole(drawn, room - overhead, lengths), placed)
        document = Document("{" + joint.join(units) + "}", "data.json")
        return replace(made, documents=(document,), metadata={**made.metadata, "pairs": len(units)})

    return sized(task, order, build)


def _lengths(others: Others, order: Order) -> Lengths:
    rng = random.Random("typical pairs")
    return Lengths([others.typical(rng) for _ in range(256)], order.counter, others.joint)
