"""Hybrid: what full text and vectors find, joined, so that a passage both like comes first.

Papers: Bruch 2022, An Analysis of Fusion Functions for Hybrid Retrieval, arXiv 2210.11934 (``fuse="scores"``, the default); Cormack
2009, Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods, SIGIR, 10.1145/1571941.1572114
(``fuse="ranks"``). Options: cross-encoder reranking (Nogueira 2019, arXiv 1901.04085); maximal marginal relevance (Carbonell 1998,
10.1145/290941.291025).

Idea: *scores*: each list is scaled from the lowest score its kind can have (BM25 0, cosine -1) to its best hit, and the two are mixed
with weight ``alpha`` on the vectors. *ranks*: a passage at rank r of a list earns 1 / (rrf_k + r); the sums rank. The default is the
one that was better on the data here (the losers are in notes/index.md); its alpha is the paper's, not tuned.

Departs: both lists are read to ``depth``. A passage that only full text found counts as similar as the last of the vectors' list (it
cannot be more so); one that only vectors found has no words in common that matter and counts 0. For ranks, absence earns 0.

Cost: one embedded question; with ``rerank`` one forward pass of the cross-encoder for each of the ``depth`` best.
Errors: ConfigError for an option out of range.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from baywindow.context.base import Retriever
from baywindow.context.retrieve.full_text import ranked_by_words
from baywindow.context.retrieve.vectors import ranked_by_meaning
from baywindow.documents.base import Hits, Passage, hits_of
from baywindow.errors import ConfigError
from baywindow.registry import technique

if TYPE_CHECKING:
    from baywindow.context.run import Run
    from baywindow.models.embedders import Reranker


@technique(
    summary="full text and vectors joined; optional rerank and diversity",
    paper="2210.11934",
    year=2022,
    needs=("embedder",),
    claim="A convex combination of scaled scores is better than full text, vectors, or reciprocal rank fusion of the two.",
    departures=("lists are read to `depth` only; a passage missing from the vectors' list counts as similar as its last one",),
)
class Hybrid(Retriever):
    """``retrieve`` fuses two searches of the corpus, or two rankings of the passages it is given."""

    k: int = 20
    fuse: Literal["scores", "ranks"] = "scores"
    alpha: float = 0.8  # Bruch's α: the weight of vectors
    rrf_k: int = 60  # Cormack's k
    depth: int = 50  # passages read from each list
    rerank: str | None = None  # cross-encoder id or folder
    mmr_lambda: float | None = None  # the paper's λ: 1 is relevance only, 0 diversity only

    def __post_init__(self) -> None:
        for name in ("k", "depth"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        if self.fuse not in ("scores", "ranks"):
            raise ConfigError.bad_value("fuse", self.fuse, "scores or ranks")
        if not 0 <= self.alpha <= 1:
            raise ConfigError.bad_value("alpha", self.alpha, "from 0 to 1")
        if self.rrf_k < 0:
            raise ConfigError.bad_value("rrf_k", self.rrf_k, "0 or more")
        if self.mmr_lambda is not None and not 0 <= self.mmr_lambda <= 1:
            raise ConfigError.bad_value("mmr_lambda", self.mmr_lambda, "from 0 to 1")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        if passages is None:
            words, meaning = run.corpus.hits(query, max(self.depth, self.k))
        else:
            words, meaning = hits_of(ranked_by_words(query, passages)), hits_of(ranked_by_meaning(run, query, passages))
        joined = fused_by_score(words, meaning, self.alpha) if self.fuse == "scores" else fused_by_rank([words, meaning], self.rrf_k)
        # The texts of those that are wanted are read, once for both lists.
        found = run.corpus.fetched(joined[: self.k if self.rerank is None and self.mmr_lambda is None else self.depth])
        if self.rerank is not None:
            found = reranked(query, found, self.rerank)
        if self.mmr_lambda is not None:
            found = diverse(run, query, found, self.k, self.mmr_lambda)
        return found[: self.k]


def fused_by_score(words: Hits, meaning: Hits, alpha: float) -> Hits:
    """Convex combination; ``words`` carry BM25 scores, ``meaning`` cosines, both best first. Scores are from 0 to 1."""
    most = max((score for _, score in words), default=0.0) or 1.0
    nearest = 1 + max((score for _, score in meaning), default=0.0)
    farthest = 1 + min((score for _, score in meaning), default=-1.0)
    by_words = {place: score / most for place, score in words}
    by_meaning = {place: (1 + score) / (nearest or 1.0) for place, score in meaning}
    scores = {
        place: (1 - alpha) * by_words.get(place, 0.0) + alpha * by_meaning.get(place, farthest / (nearest or 1.0))
        for place in by_words | by_meaning
    }
    return best_first(scores)


def fused_by_rank(lists: Sequence[Hits], rrf_k: int) -> Hits:
    """Reciprocal rank fusion; equal sums keep the order of the first list they appear in."""
    scores: dict[Passage | int, float] = {}
    for ranking in lists:
        for rank, (place, _) in enumerate(ranking, 1):
            scores[place] = scores.get(place, 0.0) + 1 / (rrf_k + rank)
    return best_first(scores)


def best_first(scores: dict[Passage | int, float]) -> Hits:
    """Places in falling order of their scores; equal ones as they stand."""
    return sorted(scores.items(), key=lambda hit: -hit[1])


def reranked(query: str, passages: list[Passage], name: str) -> list[Passage]:
    """By a cross-encoder's score, best first."""
    scores = _reranker(name).score(query, [p.text for p in passages])
    return [replace(passages[int(i)], score=float(scores[i])) for i in np.argsort(-scores, kind="stable")]


@functools.lru_cache(maxsize=2)  # its weights take seconds to read
def _reranker(name: str) -> Reranker:
    from baywindow.models.embedders import load_reranker

    return load_reranker(name)


def diverse(run: Run, query: str, passages: list[Passage], k: int, mmr_lambda: float) -> list[Passage]:
    """Maximal marginal relevance: each next passage is relevant and unlike those already taken (both by cosine)."""
    if not passages:
        return []
    vectors = run.corpus.embeddings(passages)
    order = mmr_order(vectors, vectors @ run.corpus.embed_query(query), k, mmr_lambda)
    return [passages[i] for i in order]


def mmr_order(vectors: NDArray[np.float32], relevance: NDArray[np.float32], k: int, mmr_lambda: float) -> list[int]:
    """Positions in the order they are taken; ``vectors`` (passage, dim) are of unit length, ``relevance`` is (passage,)."""
    taken: list[int] = []
    nearest = np.full(len(relevance), -np.inf, dtype=np.float32)  # similarity to the nearest one taken
    while len(taken) < min(k, len(relevance)):
        worth = relevance.copy() if not taken else mmr_lambda * relevance - (1 - mmr_lambda) * nearest
        worth[taken] = -np.inf
        best = int(np.argmax(worth))
        taken.append(best)
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return taken
