"""Variable tracking: which variables end up with a value, through a chain of assignments hidden in noise (``vt``)."""

from __future__ import annotations

import itertools
import random
import string

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks.ruler._niah import NOISE, noise
from baywindow.documents.base import Document

HOPS = 4
INSTRUCTION = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n"
QUESTION = "Question: Find all variables that are assigned the value {value} in the text above."
PREFIX = (
    "Answer: According to the chain(s) of variable assignment in the text above, "
    "{count} variables are assigned the value {value}, they are: "
)
EXAMPLE_NOISES = 5


def tracking(order: Order) -> Sample:
    """One chain of four hops in noise, after one worked example with names of three letters, as in the official prompt."""
    name = "ruler.vt"
    rng = rng_of(name, order)
    example = _example(rng)
    names, value, links = chain(rng, 5)
    placed = list(zip(sorted(rng.random() for _ in links), links, strict=True))
    instruction, question = f"{example}\n{INSTRUCTION}", QUESTION.format(value=value)
    overhead = sum(order.counter("\n" + part) for part in (instruction, question, *links))

    def build(room: int) -> Sample:
        lines = noise(room - overhead, order, "\n")
        return Sample(
            id="",
            documents=(Document("\n".join(insert_at(lines, placed)), "haystack.txt"),),
            instruction=instruction,
            question=question,
            answer_prefix=PREFIX.format(count=len(names), value=value),
            gold=tuple(names),
            scorer="includes_all",
            max_new_tokens=30,
            metadata={"chains": 1, "hops": HOPS, "depths": [round(d, 4) for d, _ in placed], "haystack": "noise"},
        )

    return sized(name, order, build)


def chain(rng: random.Random, letters: int) -> tuple[list[str], str, list[str]]:
    """Different names, the value of the first, and the assignments in order."""
    names: list[str] = []
    while len(names) < HOPS + 1:
        name = "".join(rng.choices(string.ascii_uppercase, k=letters))
        if name not in names:
            names.append(name)
    value = str(rng.randint(10_000, 99_998))
    return names, value, [f"VAR {names[0]} = {value}"] + [f"VAR {b} = VAR {a} " for a, b in itertools.pairwise(names)]


def _example(rng: random.Random) -> str:
    names, value, lines = chain(rng, 3)
    placed = list(zip(sorted(rng.random() for _ in lines), lines, strict=True))
    text = "\n".join(insert_at([NOISE] * EXAMPLE_NOISES, placed))
    question = QUESTION.format(value=value)
    return f"{INSTRUCTION}\n{text}\n{question} {PREFIX.format(count=len(names), value=value)} {' '.join(names)}\n"
