"""BM25 over texts in memory (bm25s, Lucene's variant).

k1 0.9 and b 0.4 are Anserini's defaults, better here than 1.2 and 0.75 (notes/index.md). LanceDB's full text has the latter built in,
so the two rank a little differently.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from baywindow.documents.words import words

K1, B = 0.9, 0.4


class Bm25:
    """An index over texts; `scores` are 0 where no word is shared."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._count = len(texts)
        tokens = [words(text) for text in texts]
        self._known = set().union(*tokens) if tokens else set()
        self._index = None
        if self._known:
            self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
            self._index.index(tokens, show_progress=False)

    def scores(self, query: str) -> NDArray[np.float32]:
        """One score a text, shape (text,)."""
        asked = [word for word in words(query) if word in self._known]
        if self._index is None or not asked:
            return np.zeros(self._count, dtype=np.float32)
        found: NDArray[np.float32] = np.asarray(self._index.get_scores(asked), dtype=np.float32)
        return found


def best_first(scores: NDArray[np.float32], k: int) -> list[int]:
    """Positions of the ``k`` highest scores, highest first; equal scores keep their order."""
    if 0 < 4 * k < len(scores):  # sorting all of them takes longer than finding the few
        candidates = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
        return [int(i) for i in candidates[np.argsort(-scores[candidates], kind="stable")][:k]]
    return [int(i) for i in np.argsort(-scores, kind="stable")[:k]]
