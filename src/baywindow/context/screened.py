"""The documents of one question without the sentences that order their reader what to reply (`orders`).

Every technique gets its text from a corpus, so this one place serves them all: what a passage, a note, a graph or a compressed text is made
of never held the order. Blanks stand where it stood, as many as it had characters, so every offset, span and line stays exact. Nothing is
dropped in silence: the run says what was left out and where, and a setting (``orders = "keep"``) leaves everything in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baywindow.context.orders import Orders, Span
from baywindow.context.run import Run
from baywindow.documents.base import Corpus, Hits, Passage
from baywindow.trace import Region

NAMED = 3  # places that a remark names; the trace has all
STEP = "orders left out"
_INK = re.compile(r"\S")


class Screened(Corpus):
    """A corpus seen without orders, for one question. Vectors and BM25 are those of the whole text: they only choose passages."""

    def __init__(self, whole: Corpus, question: str) -> None:
        self.whole = whole
        self.left_out: dict[tuple[str, int, int], str] = {}  # spans (source, start, end), each with the place a person finds it at
        self._orders = Orders(question)

    def passages(self) -> Iterator[Passage]:
        return self._seen(self.whole.passages())

    def full_text(self, query: str, k: int) -> list[Passage]:
        return list(self._seen(self.whole.full_text(query, k)))

    def vectors(self, query: str, k: int) -> list[Passage]:
        return list(self._seen(self.whole.vectors(query, k)))

    def hits(self, query: str, k: int) -> tuple[Hits, Hits]:
        """As places of the whole corpus, which `fetched` hands back to it."""
        return self.whole.hits(query, k)

    def fetched(self, hits: Hits) -> list[Passage]:
        return list(self._seen(self.whole.fetched(hits)))

    def embeddings(self, passages: list[Passage]) -> NDArray[np.float32]:
        return self.whole.embeddings(passages)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        return self.whole.embed_query(query)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.whole.embed_texts(texts)

    def excerpt(self, source: str, start: int, end: int) -> str:
        """As passages show it: what was left out of one stays out of any span around it."""
        text = self.whole.excerpt(source, start, end)
        known = [(a - start, b - start) for (name, a, b) in self.left_out if name == source and a < end and b > start]
        return blanked(text, [*known, *self._orders.spans(text)])

    @property
    def characters(self) -> int:
        return self.whole.characters

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]  # a plain attribute there, always the whole corpus' here
        return self.whole.notes

    def _seen(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """Passages without orders; one that is nothing but orders is left out."""
        for passage in passages:
            if spans := self._orders.spans(passage.text):
                for start, end in spans:
                    self._leave_out(passage, start, end)
                passage = replace(passage, text=blanked(passage.text, spans))
            if passage.text.strip():
                yield passage

    def _leave_out(self, passage: Passage, start: int, end: int) -> None:
        line = None if passage.line is None else passage.line + passage.text.count("\n", 0, start)
        place = replace(passage, line=line).place
        self.left_out.setdefault((passage.source, passage.start + start, passage.start + end), place)


def whole(corpus: Corpus) -> Corpus:
    """The corpus as it is, which citations are checked against."""
    return corpus.whole if isinstance(corpus, Screened) else corpus


def blanked(text: str, spans: Iterable[Span]) -> str:
    """``text`` with blanks for every character of these spans but line breaks; its length stays."""
    for start, end in spans:
        start = max(0, start)
        text = text[:start] + _INK.sub(" ", text[start:end]) + text[end:]
    return text


def tell_left_out(run: Run, *, found: bool) -> None:
    """A remark and a step of the trace for what was left out of a run's documents. ``found``: whether the run led to an answer."""
    corpus = run.corpus
    if not isinstance(corpus, Screened) or not corpus.left_out:
        return
    with run.stage(STEP) as regions:
        for source, start, end in corpus.left_out:
            tokens = run.model.count_tokens(corpus.whole.excerpt(source, start, end))
            regions.append(Region(kind="passage", tokens=tokens, fate="left_out", source=source, start=start, end=end))
    places = list(dict.fromkeys(corpus.left_out.values()))
    where = ", ".join(places[:NAMED]) + (f" and {len(places) - NAMED} more" if len(places) > NAMED else "")
    number = len(corpus.left_out)
    what = (
        "1 sentence that orders its reader what to reply was"
        if number == 1
        else f"{number} sentences that order their reader what to reply were"
    )
    hint = "" if found else '; if the answer should stand there, ask with the setting orders = "keep"'
    run.note(f"{what} left out: {where}{hint}")
