"""The Ancestral Trace Challenge: a shuffled line of relatives and nothing else, so that the number of links sets the difficulty."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import prefix, rng_of, sized
from baywindow.bench.tasks.needlebench._people import kinship, people
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

COUNTED = 200
KINDS = ("eldest", "ancestor", "descendant", "distance")
INSTRUCTION = """The Ancestral Trace Challenge: below are sentences about how people are related, in no order. Reason from one to the next.

Father, mother, dad and mom are one generation back; every kind of grandfather and grandmother is two. Names say nothing about who is a \
man or a woman, nor about who shares a family name.
By example: if Ann Ray's mother is Lee Fox and Lee Fox's grandfather is Max Orr, then the eldest relative of Ann Ray is Max Orr, who is \
her ancestor of generation 3; Ann Ray is Max Orr's descendant of generation 3; and the two are 3 generations apart.

The sentences:"""
NAME = "\nEnd with the answer in a box: \\boxed{{the name}}."
NUMBER = "\nEnd with the answer in a box: \\boxed{{the number}}."
QUESTIONS = {
    "eldest": "\nWho is the eldest relative that {young} can be traced back to?" + NAME,
    "ancestor": "\nWho is the ancestor of generation {apart} of {young}?" + NAME,
    "descendant": "\nWho is the descendant of generation {apart} of {old}?" + NAME,
    "distance": "\nHow many generations are {old} and {young} apart?" + NUMBER,
}


@dataclass(frozen=True)
class Line:
    """A family line from the eldest down, with its sentences in order."""

    names: list[str]
    sentences: list[str]
    generations: int


def ancestral_trace(order: Order) -> Sample:
    """As many links as the option ``links`` says, the room beyond them natural text or nothing; without it, as many as fit.

    ``kind`` is eldest, ancestor, descendant or distance; by default the seed chooses.
    """
    task = "needlebench.ancestral_trace"
    rng = rng_of(task, order)
    kind, links = order.options.get("kind") or rng.choice(KINDS), order.options.get("links")
    if kind not in KINDS:
        raise ConfigError.bad_value("kind", kind, " or ".join(KINDS))
    if links is not None and (not isinstance(links, int) or links < 1):
        raise ConfigError.bad_value("links", links, "a number of links, or nothing for as many as fit")
    most = links or max(2, order.tokens // 8)
    names = people(most + 1, rng)
    sentences, gaps = kinship(names, rng)
    shuffles = [rng.random() for _ in sentences]
    costs = _costs(sentences, order)
    overhead = order.counter(INSTRUCTION) + order.counter(QUESTIONS[kind]) + 8

    def build(room: int) -> Sample:
        count = links or max(2, sum(1 for total in itertools.accumulate(costs) if total <= room - overhead))
        line = Line(names[: count + 1], sentences[:count], sum(gaps[:count]))
        filler = int(room - overhead - sum(costs[:count]))
        return _asked(line, kind, _text(line, shuffles, order, filler))

    return sized(task, order, build)


def _costs(sentences: list[str], order: Order) -> list[float]:
    """Tokens of each sentence: counted for the first, told from the characters for the rest, which would be slow to count singly."""
    counted = [float(order.counter(" " + sentence)) for sentence in sentences[:COUNTED]]
    ratio = sum(counted) / sum(len(sentence) + 1 for sentence in sentences[:COUNTED])
    return counted + [ratio * (len(sentence) + 1) for sentence in sentences[COUNTED:]]


def _text(line: Line, shuffles: list[float], order: Order, filler: int) -> str:
    """The sentences in random order, and natural text between them for what is left of the room."""
    shuffled = [line.sentences[i] for i in sorted(range(len(line.sentences)), key=lambda i: shuffles[i])]
    units = prefix(order.haystack.from_seed(order.seed), filler, order.counter) if filler > 0 else []
    if not units:
        return " ".join(shuffled)
    return " ".join(insert_at(units, [(i / max(len(shuffled) - 1, 1), text) for i, text in enumerate(shuffled)]))


def _asked(line: Line, kind: str, text: str) -> Sample:
    old, young = line.names[0], line.names[-1]
    gold = {"eldest": old, "ancestor": old, "descendant": young, "distance": str(line.generations)}[kind]
    return Sample(
        id="",
        documents=(Document(text, "relatives.txt"),),
        instruction=INSTRUCTION,
        question=QUESTIONS[kind].format(old=old, young=young, apart=line.generations),
        gold=(gold,),
        scorer="needlebench_boxed",
        max_new_tokens=1024,
        metadata={"kind": kind, "links": len(line.sentences), "generations": line.generations},
    )
