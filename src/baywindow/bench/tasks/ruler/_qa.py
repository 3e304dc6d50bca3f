"""Question answering with distracting paragraphs (``qa_1``: one paragraph holds the answer, ``qa_2``: two must be combined)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import prefix, rng_of, sized
from baywindow.bench.tasks._invented import Item, invented
from baywindow.bench.tasks.ruler._sources import from_file
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

ASK = "Answer the question based on the given documents. Only give me the answer and do not output any other words."
INSTRUCTION = f"{ASK}\n\nThe following are given documents.\n"
QUESTION = f"\n{ASK}\n\nQuestion: {{query}}"
PREFIX = "Answer:"
JOINT = "\n\nDocument 100:\n"  # what stands between two paragraphs, as far as length goes


@dataclass(frozen=True, kw_only=True)
class Questions:
    """One task. The option ``data`` names a file or folder with the official data; without it the facts are invented."""

    name: str
    dataset: str
    hops: int

    def __call__(self, order: Order) -> Sample:
        """One sample; ``order.depth`` places the first paragraph that the answer needs."""
        rng = rng_of(self.name, order)
        item, others, made_from = self._material(order)
        depths = [round(rng.random(), 4) for _ in item.needed]
        if order.depth is not None:
            depths[0] = order.depth
        placed = list(zip(depths, item.needed, strict=True))
        question = QUESTION.format(query=item.question)
        overhead = order.counter(INSTRUCTION) + order.counter(question) + sum(order.counter(JOINT + text) for text in item.needed)
        pool: list[str] = []

        def build(room: int) -> Sample:
            texts = insert_at(prefix(_remembered(pool, others), room - overhead, order.counter, JOINT), placed)
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

    def _material(self, order: Order) -> tuple[Item, Iterator[str], str]:
        """The question, distractors (its neighbours first, then all others, in random order) and where they are from."""
        if not order.options.get("data"):
            item, others = invented(self.name, order, self.hops)
            return item, others, f"invented facts in {order.haystack.name}"
        place = Path(str(order.options["data"]))
        items, paragraphs = from_file(self.dataset, place)
        room = order.tokens - order.counter(INSTRUCTION) - order.counter(QUESTION) - 60
        for n in range(len(items)):
            item = items[(order.seed + n) % len(items)]
            if sum(order.counter(JOINT + text) for text in item.needed) <= room:
                return item, self._distractors(order, item, paragraphs), f"{self.dataset}:{place.name}"
        raise ConfigError(f"no question of {place} has paragraphs that fit into {order.tokens} tokens", hint="ask for a longer context")

    def _distractors(self, order: Order, item: Item, paragraphs: tuple[str, ...]) -> Iterator[str]:
        rng = rng_of(self.name, order, "distractors")
        near = rng.sample(item.near, len(item.near))
        known = {*near, *item.needed}
        far = [text for text in paragraphs if text not in known]
        yield from near
        yield from rng.sample(far, len(far))
        while near or far:  # the official code too begins again when the data runs out
            yield from [*near, *far]


def _remembered(pool: list[str], source: Iterator[str]) -> Iterator[str]:
    """``source`` from its beginning, however far it was read before."""
    n = 0
    while True:
        if n == len(pool):
            try:
                pool.append(next(source))
            except StopIteration:
                return
        yield pool[n]
        n += 1
