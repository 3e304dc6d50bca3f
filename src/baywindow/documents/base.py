"""The words of this room: documents, passages with exact spans, and the `Corpus` that readers and retrievers see.

Offsets are characters of a document's *extracted* text (for plain text files: of the decoded file). A `Passage` is always an
exact span of one document: ``corpus.excerpt(p.source, p.start, p.end) == p.text``. Lines and pages count from 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import CapabilityError


@dataclass(frozen=True)
class Mark:
    """From offset ``start`` on, text belongs to this page (PDF) or this heading, slide or sheet."""

    start: int
    page: int | None = None
    label: str = ""


@dataclass(frozen=True)
class Document:
    """A whole text in memory. ``source`` is how a citation names it: a path as the person gave it, ``-``, or any identifier."""

    text: str
    source: str
    marks: tuple[Mark, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """An exact span of a document. Exactly one of ``line`` (of ``start``) and ``page`` is set. ``score``: higher is better."""

    text: str
    source: str
    start: int
    end: int
    line: int | None = None
    page: int | None = None
    label: str = ""
    score: float = 0.0

    @property
    def place(self) -> str:
        where = f"{self.source}, page {self.page}" if self.page is not None else f"{self.source}:{self.line}"
        return f"{where} ({self.label})" if self.label else where

    @property
    def key(self) -> tuple[str, int, int]:
        """What makes two passages the same."""
        return (self.source, self.start, self.end)


# Places, best first, each with its score. What a place is, only the corpus it came from knows.
Hits = list[tuple[Passage | int, float]]


class Corpus(ABC):
    """What a question is asked of: a stored index, or documents in memory. Both answer the same calls in the same way."""

    notes: tuple[str, ...] = ()  # remarks a person should see: scans without text, files skipped and why

    @abstractmethod
    def passages(self) -> Iterator[Passage]:
        """Everything, in reading order (sources sorted, then offsets), as adjoining passages; nothing missing but blank edges."""

    @abstractmethod
    def full_text(self, query: str, k: int) -> list[Passage]:
        """The best ``k`` passages by BM25, best first."""

    @abstractmethod
    def vectors(self, query: str, k: int) -> list[Passage]:
        """The best ``k`` passages by cosine similarity of embeddings, best first; ``score`` is the similarity."""

    def hits(self, query: str, k: int) -> tuple[Hits, Hits]:
        """What `full_text` and `vectors` find, as places. A stored index searches both at once and reads no passage for it."""
        return hits_of(self.full_text(query, k)), hits_of(self.vectors(query, k))

    def fetched(self, hits: Hits) -> list[Passage]:
        """The passages at places, in their order and with the scores given; a place that is gone is left out. A passage may stand for
        its place, also one of another corpus."""
        return [replace(place, score=score) for place, score in hits if isinstance(place, Passage)]

    @abstractmethod
    def embeddings(self, passages: list[Passage]) -> NDArray[np.float32]:
        """Unit vectors of passages, shape (passage, dim); stored ones where there are some, else computed now."""

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """The question's unit vector, shape (dim,), in the space of `embeddings`. CapabilityError where a corpus has no embedder."""
        raise CapabilityError("this corpus has no embedding model", hint="use full_text")

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of texts that are no passages, shape (text, dim), in the space of `embeddings`. CapabilityError as above."""
        raise CapabilityError("this corpus has no embedding model", hint="use full_text")

    @abstractmethod
    def excerpt(self, source: str, start: int, end: int) -> str:
        """The text a document holds from ``start`` to ``end``; SourceError for an unknown source."""

    @property
    @abstractmethod
    def characters(self) -> int:
        """Length of all texts together, in characters (for cost estimates before anything is read)."""


def hits_of(passages: list[Passage]) -> Hits:
    """Passages as places: equal ones are one place, whatever their scores."""
    return [(replace(p, score=0.0), p.score) for p in passages]
