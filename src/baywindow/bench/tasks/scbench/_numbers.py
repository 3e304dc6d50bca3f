"""Questions that need every part of the text: numbers to compare (``mf``) and solved examples to learn from (``many_shot``)."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

from baywindow.bench.base import Order, Sample, Turn
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._whole import Whole
from baywindow.bench.tasks.scbench._shared import overhead_of, shared, turns_of

MF = "Below is a long list of whole numbers. Answer each question about it with one number and nothing else."
MF_ASKED: dict[str, Callable[[list[int]], int]] = {
    "the largest number": max,
    "the smallest number": min,
    "the second largest number": lambda numbers: sorted(set(numbers))[-2],
    "the second smallest number": lambda numbers: sorted(set(numbers))[1],
    "the median": lambda numbers: int(statistics.median(numbers)),
    "the third largest number": lambda numbers: sorted(set(numbers))[-3],
    "the third smallest number": lambda numbers: sorted(set(numbers))[2],
}
SHOTS = "Below are solved exercises. Solve each further exercise in the same way; answer with the letter in brackets and nothing else."
_PEOPLE = ("Ada", "Boris", "Chloe", "Darius", "Elif", "Farid", "Greta", "Hiro")
_THINGS = ("atlas", "bucket", "candle", "drum", "easel", "feather", "globe", "hammer", "inkpot", "jar")


def mf(order: Order) -> Sample:
    """Extremes and the median of an odd count of numbers of up to five digits. Up to seven different questions."""
    name, count = "scbench.mf", min(turns_of(order), len(MF_ASKED))
    rng = rng_of(name, order)
    numbers = Whole(lambda: str(rng.randint(0, 99_999)), order.counter, ", ")
    asked = rng_of(name, order, "asked").sample(sorted(MF_ASKED), count)
    overhead = overhead_of(order, MF, _mf_question(asked[0]))

    def build(room: int) -> Sample:
        taken = numbers.upto(room - overhead)
        taken = taken[: len(taken) - (len(taken) + 1) % 2]
        values = [int(n) for n in taken]
        golds = [(str(MF_ASKED[what](values)),) for what in asked]
        turns = [
            Turn(question=_mf_question(what), gold=gold, scorer="scbench_number", max_new_tokens=8)
            for what, gold in zip(asked, golds, strict=True)
        ]
        return shared(order, context=", ".join(taken), instruction=MF, turns=turns)

    return sized(name, order, build)


def _mf_question(what: str) -> str:
    return f"What is {what} in the list?"


def many_shot(order: Order) -> Sample:
    """Three people swap things a few times; who has what in the end. Examples fill the context, the questions are new ones."""
    name, count = "scbench.many_shot", turns_of(order)
    rng = rng_of(name, order)
    fresh = rng_of(name, order, "asked")
    asked = [exercise(fresh) for _ in range(count)]
    examples = Whole(lambda: "\n".join(exercise(rng)), order.counter, "\n\n")
    overhead = overhead_of(order, SHOTS, asked[0][0])

    def build(room: int) -> Sample:
        turns = [Turn(question=question, gold=(answer,), scorer="scbench_has", max_new_tokens=10) for question, answer in asked]
        return shared(order, context="\n\n".join(examples.upto(room - overhead)), instruction=SHOTS, turns=turns)

    return sized(name, order, build)


def exercise(rng: random.Random) -> tuple[str, str]:
    """The exercise with its choices, and the letter of the right one in brackets."""
    people, things = rng.sample(_PEOPLE, 3), rng.sample(_THINGS, 3)
    holds = dict(zip(people, things, strict=True))
    lines = ["Exercise: " + ", ".join(f"{person} has the {thing}" for person, thing in holds.items()) + "."]
    for _ in range(rng.randint(2, 5)):
        one, other = rng.sample(people, 2)
        holds[one], holds[other] = holds[other], holds[one]
        lines.append(f"{one} and {other} swap.")
    person, choices = rng.choice(people), rng.sample(things, 3)
    lines.append(f"What does {person} have now?")
    lines.append(" ".join(f"({letter}) the {thing}" for letter, thing in zip("ABC", choices, strict=True)))
    return " ".join(lines) + "\nAnswer:", f"({'ABC'[choices.index(holds[person])]})"
