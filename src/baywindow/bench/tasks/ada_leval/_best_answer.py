"""BestAnswer: one of n answers is the right one. Made from the haystack, an answer is how a passage goes on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._whole import Whole
from baywindow.documents.base import Document
from baywindow.errors import SourceError

NAME = "ada_leval.best_answer"
INSTRUCTION = "Below are numbered answers (A1, A2 and so on) to a question that comes after them. Find the most helpful one."
QUESTION = "Question: how does this passage go on?\n{passage}"
CLOSING = "Reply with the designation of the best answer and nothing else, in the form: Answer: A4"
_SENTENCES = 3  # of the passage, and of its continuation


def best_answer(order: Order) -> Sample:
    """As many candidates as fit; ``order.depth`` places the right one. None of the others has a sentence of the passage or of its end."""
    sentences = list(islice(order.haystack.from_seed(order.seed), len(order.haystack.sentences)))
    if len(sentences) < 6 * _SENTENCES:
        raise SourceError(f"{NAME} takes a haystack of at least {6 * _SENTENCES} sentences", hint="name a folder with more text")
    rng = rng_of(NAME, order)
    passage, right = (" ".join(sentences[i * _SENTENCES : (i + 1) * _SENTENCES]) for i in range(2))
    others = Whole(_Others(sentences[2 * _SENTENCES :], rng_of(NAME, order, "others")), order.counter, "\n\nA100:\n")
    depth = rng.random() if order.depth is None else order.depth
    question = f"{QUESTION.format(passage=passage)}\n{CLOSING}"
    overhead = sum(order.counter("\n\nA100:\n" + part) for part in (INSTRUCTION, question, right))

    def build(room: int) -> Sample:
        candidates = others.upto(room - overhead)
        at = round(depth * len(candidates))
        candidates.insert(at, right)
        return Sample(
            id="",
            documents=answers(candidates),
            instruction=INSTRUCTION,
            question=question,
            gold=(f"Answer: A{at + 1}",),
            scorer="ada_leval_designation",
            max_new_tokens=16,
            metadata={"candidates": len(candidates), "depth": round(depth, 4), "haystack": order.haystack.name},
        )

    return sized(NAME, order, build)


def answers(texts: Sequence[str]) -> tuple[Document, ...]:
    """One document a candidate, each headed by its designation; sources sort in the order of the numbers."""
    return tuple(Document(f"A{i}:\n{text}", f"answer_{i:05}.txt") for i, text in enumerate(texts, start=1))


class _Others:
    """Draws passages of two to four sentences from anywhere in what is given."""

    def __init__(self, sentences: Sequence[str], rng: random.Random) -> None:
        self._sentences, self._rng = sentences, rng

    def __call__(self) -> str:
        count = self._rng.randint(_SENTENCES - 1, _SENTENCES + 1)
        start = self._rng.randrange(len(self._sentences) - count + 1)
        return " ".join(self._sentences[start : start + count])


@metric
def ada_leval_designation(reply: str, turn: Turn) -> float:
    """1 if the highest designation that the reply names is the gold one; without any, bare numbers count (the official parser)."""
    count = int(turn.metadata["candidates"])
    for lead in ("A", ""):
        named = next((i for i in range(count, 0, -1) if f"{lead}{i}" in reply), None)
        if named is not None:
            return float(turn.gold[0] == f"Answer: A{named}")
    return 0.0
