"""A JSON object of key-value pairs as the haystack: some pairs at stated depths, the rest drawn until the length is reached."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import Drawn, rng_of, sized, whole
from baywindow.documents.base import Document


def a_uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def uuid_pair(rng: random.Random) -> str:
    return f'"{a_uuid(rng)}": "{a_uuid(rng)}"'


def among_pairs(
    task: str, order: Order, made: Sample, placed: Sequence[tuple[float, str]], other: Callable[[random.Random], str], joint: str = ", "
) -> Sample:
    """``made`` with one document, a JSON object that holds the ``placed`` pairs between as many others as fit. Adds their number."""
    rng = rng_of(task, order, "others")
    drawn: Drawn[str] = Drawn(lambda: other(rng))
    overhead = order.counter(made.instruction) + order.counter(made.question) + sum(order.counter(joint + text) for _, text in placed) + 4

    def build(room: int) -> Sample:
        units = insert_at(whole(drawn, room - overhead, order.counter, joint), placed)
        document = Document("{" + joint.join(units) + "}", "data.json")
        return replace(made, documents=(document,), metadata={**made.metadata, "pairs": len(units)})

    return sized(task, order, build)
