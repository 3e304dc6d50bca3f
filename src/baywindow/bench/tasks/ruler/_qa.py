"""Question answering with distracting paragraphs (``qa_1``: one paragraph holds the answer, ``qa_2``: two must be combined)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import Drawn, prefix, rng_of, sized
from baywindow.bench.tasks._invented import Item, invented, upto
from baywindow.bench.tasks.ruler._sources import from_file
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

ASK = "Answer the question based on the given documents. Only give me the answer and do not output any other words."
INSTRUCTION = f"{ASK}\n\nThe following are given documents.\n"
QUESTION = f"\n{ASK}\n\nQuestion: {{query}}"
PREFIX = "Answer:"
PARAGRAPH = 90  # tokens, roughly: tells how many digits the numbers have


@dataclass(frozen=True, kw_only=True)
class Questions:
    """One task. The option ``data`` names a file or folder with the official data; without it the facts are invented."""

    name: str
    dataset: str
    hops: int

    def __call__(self, order: Order) -> Sample:
        """One sample; ``order.depth`` places the first paragraph that the answer needs."""
        rng, joint = rng_of(self.name, order), heading(order)
        item, fill, made_from = self._material(order)
        depths = [round(rng.random(), 4) for _ in item.needed]
        if order.depth is not None:
            depths[0] = order.depth
        placed = list(zip(depths, item.needed, strict=True))
        question = QUESTION.format(query=item.question)
        overhead = order.counter(INSTRUCTION) + order.counter(question) + sum(order.counter(joint + text) for text in item.needed)

        def build(room: int) -> Sample:
            texts = insert_at(fill(room - overhead), placed)
            documents = tuple(Document(f"Document {i}:\n{text}", f"document-{i}") for i, text in enumerate(texts, 1))
            return Sample(
                id="",
                documents=documents,
                instruction=INSTRUCTION,
                question=question,
                answer_prefix=PREFIX,
                gold=item.answers,
                scorer="includes_any",
                max_new_tokens=32,
                metadata={"depth": depths[0], "depths": depths, "documents": len(texts), "data": made_from},
            )

        return sized(self.name, order, build)

    def _material(self, order: Order) -> tuple[Item, Callable[[int], list[str]], str]:
        """The question, what makes distractors for a room of tokens, and where all is from."""
        joint = heading(order)
        if not order.options.get("data"):
            item, others = invented(self.name, order, self.hops)
            passages = Drawn(lambda: next(others))
            made_from = f"invented facts in {order.haystack.name}"
            return item, lambda room: [p.text for p in upto(passages.endless(), room, order.counter, joint)], made_from
        place = Path(str(order.options["data"]))
        items, paragraphs = from_file(self.dataset, place)
        room = order.tokens - order.counter(INSTRUCTION) - order.counter(QUESTION) - 60
        for n in range(len(items)):
            item = items[(order.seed + n) % len(items)]
            if sum(order.counter(joint + text) for text in item.needed) <= room:
                every = self._distractors(order, item, paragraphs)
                return item, functools.partial(_cycled, every, order, joint), f"{self.dataset}:{place.name}"
        raise ConfigError(f"no question of {place} has paragraphs that fit into {order.tokens} tokens", hint="ask for a longer context")

    def _distractors(self, order: Order, item: Item, paragraphs: tuple[str, ...]) -> list[str]:
        """Its neighbours first, then all others, both in random order; then, as in the official code, the same again."""
        rng = rng_of(self.name, order, "distractors")
        near = rng.sample(item.near, len(item.near))
        known = {*near, *item.needed}
        far = [text for text in paragraphs if text not in known]
        return [*near, *rng.sample(far, len(far))]


def heading(order: Order) -> str:
    """What stands between two paragraphs, as far as length goes."""
    return f"\n\nDocument {'1' * len(str(order.tokens // PARAGRAPH))}:\n"


def _cycled(texts: list[str], order: Order, joint: str, room: int) -> list[str]:
    return prefix(itertools.cycle(texts), room, order.counter, joint)
