"""Finding memories by words, by meaning, or both, inside one scope.

Word statistics are those of the scope alone: what others said changes neither a result nor its score. The two lists are joined as the
retriever for documents does it (Bruch 2022, arXiv 2210.11934): each scaled from the lowest score its kind can have to its best hit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from baywindow.documents.bm25 import Bm25, best_first
from baywindow.errors import MissingExtraError
from baywindow.memory.records import Scope

if TYPE_CHECKING:
    from baywindow.memory.store import Store
    from baywindow.memory.store.meaning import Meaning

T = TypeVar("T")
By = Literal["words", "meaning", "both"]
Near = list[tuple[str, float]]  # (id, score), best first

ALPHA = 0.5  # weight of meaning
DEPTH = 50  # read from each list at least
SEARCHES_AT_ONCE = 4


class Finder:
    """Searches of one store. ``turns`` and ``records`` give ids with scores, best first."""

    def __init__(self, store: Store, meaning: Meaning, note: Callable[[str], None]) -> None:
        self._store = store
        self._meaning = meaning
        self._note = note
        self._beside = ThreadPoolExecutor(SEARCHES_AT_ONCE, thread_name_prefix="words")  # its threads begin when they are needed

    def turns(self, scope: Scope, query: str, k: int, by: By = "both") -> Near:
        return self._near(scope, "", query, k, by, None)

    def records(self, scope: Scope, system: str, query: str, k: int, by: By = "both", kind: str | None = None) -> Near:
        return self._near(scope, system, query, k, by, kind)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._meaning.embed(texts)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        return self._meaning.embed_query(query)

    @property
    def embedder(self) -> str:
        """The fingerprint of the embedder: vectors of different ones are not to be compared."""
        return self._meaning.embedder.fingerprint

    def ranked(self, query: str, texts: Sequence[str], by: By = "both") -> list[tuple[int, float]]:
        """Places of texts that are not stored yet, best first."""
        depth = len(texts)
        words = [] if by == "meaning" else _positive(Bm25(texts).scores(query))
        meaning: list[tuple[int, float]] = []
        if by != "words":
            scores = self.embed(texts) @ self._meaning.embed_query(query)
            meaning = [(at, float(scores[at])) for at in best_first(scores, depth)]
        return joined(words, meaning, depth) if by == "both" else words or meaning

    def _near(self, scope: Scope, system: str, query: str, k: int, by: By, kind: str | None) -> Near:
        if k < 1 or not query.strip() or (shelf := self._store.shelf(system, scope.user)) is None:
            return []
        depth = k if by != "both" else max(k, DEPTH)
        if by == "words":
            return self._store.named(self._store.by_words(shelf, scope, query, depth, kind))
        if by == "meaning":
            return self._store.named(self._meaning.near(shelf, scope, query, depth, kind))
        # Words are counted while the question is embedded.
        counted = self._beside.submit(self._store.by_words, shelf, scope, query, depth, kind)
        try:
            near = self._meaning.near(shelf, scope, query, depth, kind)
        except MissingExtraError as missing:
            self._note(f"searched by words only: {missing}")
            return self._store.named(counted.result()[:k])
        return self._store.named(joined(counted.result(), near, k))


def joined(words: Sequence[tuple[T, float]], meaning: Sequence[tuple[T, float]], k: int) -> list[tuple[T, float]]:
    """One list of two: BM25 scaled from 0, cosine from -1. What only words found counts as similar as the last of the other list."""
    most = max((score for _, score in words), default=0.0) or 1.0
    near = dict(meaning)
    best, last = max(near.values(), default=1.0), min(near.values(), default=-1.0)
    counted = dict(words)
    scores = {
        key: ALPHA * (1 + near.get(key, last)) / (1 + best) + (1 - ALPHA) * counted.get(key, 0.0) / most for key in {**near, **counted}
    }
    return sorted(scores.items(), key=lambda item: -item[1])[:k]


def same_text(text: str) -> str:
    """What makes two memories the same: the text, case and spacing and the last full stop aside."""
    return " ".join(text.casefold().split()).rstrip(".")


def _positive(scores: NDArray[np.float32]) -> list[tuple[int, float]]:
    return [(at, float(scores[at])) for at in best_first(scores, len(scores)) if scores[at] > 0]
