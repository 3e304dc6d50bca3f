"""What an ordered list of passages is worth for a question."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from baywindow.models.embedders import Reranker


class SetScores(ABC):
    """Scores lists of candidates, which are named by their numbers."""

    @abstractmethod
    def with_one_more(self, chosen: Sequence[int], added: NDArray[np.int64]) -> NDArray[np.float32]:
        """The worth of ``chosen`` followed by each of ``added``, shape (added,); comparable between all lists, about 0 to 1."""


class VectorScores(SetScores):
    """Cosine of the question with the sum of the list's unit vectors (candidate, dim)."""

    def __init__(self, vectors: NDArray[np.float32], question: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._fit = vectors @ question

    def with_one_more(self, chosen: Sequence[int], added: NDArray[np.int64]) -> NDArray[np.float32]:
        if not chosen:
            return self._fit[added]
        before = self._vectors[list(chosen)].sum(axis=0)
        # |a + b|² = |a|² + |b|² + 2ab, with every b of length 1.
        norms = np.sqrt(np.maximum(before @ before + 1 + 2 * (self._vectors[added] @ before), 1e-12))
        found: NDArray[np.float32] = (self._fit[list(chosen)].sum() + self._fit[added]) / norms
        return found


class RerankedScores(SetScores):
    """A cross-encoder's score of the joined texts, squashed to 0..1 where the model gives raw values."""

    def __init__(self, name: str, query: str, texts: Sequence[str]) -> None:
        self._reranker = reranker(name)
        self._query, self._texts = query, texts

    def with_one_more(self, chosen: Sequence[int], added: NDArray[np.int64]) -> NDArray[np.float32]:
        start = [self._texts[i] for i in chosen]
        raw = self._reranker.score(self._query, ["\n".join([*start, self._texts[i]]) for i in added])
        if raw.size and (raw.min() < 0 or raw.max() > 1):
            raw = (1 / (1 + np.exp(-raw))).astype(np.float32)
        return raw


@functools.lru_cache(maxsize=2)  # its weights take seconds to read
def reranker(name: str) -> Reranker:
    from baywindow.models.embedders import load_reranker

    return load_reranker(name)
