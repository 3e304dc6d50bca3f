"""A corpus whose documents go by other names: an index knows files by path, its reader must see the names that people gave them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baywindow.documents.base import Corpus, Hits, Passage
from baywindow.errors import SourceError


class Renamed(Corpus):
    """``names`` maps the inner corpus' sources to those that are shown, one to one. Sources without a name do not exist here."""

    def __init__(self, inner: Corpus, names: Mapping[str, str]) -> None:
        self._inner = inner
        self._shown = dict(names)
        self._real = {shown: real for real, shown in names.items()}

    def passages(self) -> Iterator[Passage]:
        return (replace(p, source=self._shown[p.source]) for p in self._inner.passages() if p.source in self._shown)

    def full_text(self, query: str, k: int) -> list[Passage]:
        return self._outward(self._inner.full_text(query, k))

    def vectors(self, query: str, k: int) -> list[Passage]:
        return self._outward(self._inner.vectors(query, k))

    def hits(self, query: str, k: int) -> tuple[Hits, Hits]:
        """As places of the inner corpus, which `fetched` hands back to it."""
        return self._inner.hits(query, k)

    def fetched(self, hits: Hits) -> list[Passage]:
        return self._outward(self._inner.fetched([(self._inward(p) if isinstance(p, Passage) else p, score) for p, score in hits]))

    def embeddings(self, passages: list[Passage]) -> NDArray[np.float32]:
        return self._inner.embeddings([self._inward(p) for p in passages])

    def embed_query(self, query: str) -> NDArray[np.float32]:
        return self._inner.embed_query(query)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._inner.embed_texts(texts)

    def excerpt(self, source: str, start: int, end: int) -> str:
        if source not in self._real:
            raise SourceError(f"no document is called {source!r}", hint="it may have been deleted")
        return self._inner.excerpt(self._real[source], start, end)

    @property
    def characters(self) -> int:
        return self._inner.characters

    def _outward(self, passages: list[Passage]) -> list[Passage]:
        return [replace(p, source=self._shown[p.source]) for p in passages if p.source in self._shown]

    def _inward(self, passage: Passage) -> Passage:
        return replace(passage, source=self._real.get(passage.source, passage.source))
