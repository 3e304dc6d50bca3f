"""Full text: passages that share the question's words, the rarer the word the more it counts.

Paper: Robertson and Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond.

Idea: a word counts by how rare it is in the corpus and, with diminishing returns, by how often it occurs in a passage; long
passages are held back a little. The corpus ranks (LanceDB's full text on disk, bm25s in memory).

Departs: nothing known in the ranking. English words are stemmed and the commonest left out before it.

Cost: no model call; one look into an inverted index.
Errors: ConfigError for k below 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from baywindow.context.base import Retriever
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import Bm25, best_first
from baywindow.errors import ConfigError
from baywindow.registry import technique

if TYPE_CHECKING:
    from baywindow.context.run import Run


@technique(
    summary="passages that share the question's words (BM25)",
    paper="10.1561/1500000019",
    year=2009,
    needs=(),
    claim="Ranking by BM25 finds the passages that hold a question's rare words without any training.",
)
class FullText(Retriever):
    """``retrieve`` searches the corpus, or ranks the passages it is given by BM25 among themselves."""

    k: int = 20

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError.bad_value("k", self.k, "at least 1")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        if passages is None:
            return run.corpus.full_text(query, self.k)
        return ranked_by_words(query, passages)[: self.k]


def ranked_by_words(query: str, passages: list[Passage]) -> list[Passage]:
    """All given passages with BM25 scores, best first; those without a shared word come last, in the order they had."""
    scores = Bm25([p.text for p in passages]).scores(query)
    return [replace(passages[i], score=float(scores[i])) for i in best_first(scores, len(passages))]
