"""Vectors: passages whose embedding is nearest to the question's, whatever words they use.

Paper: Karpukhin 2020, Dense Passage Retrieval for Open-Domain Question Answering, arXiv 2004.04906; the embedded model is of
Reimers 2019, Sentence-BERT, arXiv 1908.10084.

Idea: question and passage become unit vectors of one space; the dot product ranks. The corpus searches (an exact product in memory
and for small indexes, an approximate index with measured recall above that).

Departs: one encoder for questions and passages (DPR trains two), because that is what the embedded model is; an embedder with two
is used as such.

Cost: one short embedding; no call of the language model.
Errors: ConfigError for k below 1, MissingExtraError without an embedding model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from baywindow.context.base import Retriever
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import best_first
from baywindow.errors import ConfigError
from baywindow.registry import technique

if TYPE_CHECKING:
    from baywindow.context.run import Run


@technique(
    summary="passages whose embedding is nearest to the question's",
    paper="2004.04906",
    year=2020,
    needs=("embedder",),
    claim="Dense vectors find answer passages that share no words with the question.",
    departures=("one encoder serves questions and passages unless the embedder has two: the embedded model has one",),
)
class Vectors(Retriever):
    """``retrieve`` searches the corpus, or ranks the passages it is given by cosine similarity."""

    k: int = 20

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError.bad_value("k", self.k, "at least 1")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        if passages is None:
            return run.corpus.vectors(query, self.k)
        return ranked_by_meaning(run, query, passages)[: self.k]


def ranked_by_meaning(run: Run, query: str, passages: list[Passage]) -> list[Passage]:
    """All given passages with cosine similarities, best first."""
    if not passages:
        return []
    scores = run.corpus.embeddings(passages) @ run.corpus.embed_query(query)
    return [replace(passages[i], score=float(scores[i])) for i in best_first(scores, len(passages))]
