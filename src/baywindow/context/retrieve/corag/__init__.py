"""CORAG: search for the ordered set of passages that is best together, within a budget of tokens.

Paper: Wang 2024, CORAG: A Cost-Constrained Retrieval Optimization System for Retrieval-Augmented Generation, arXiv 2411.00744;
reference code wang0702/CARROT was read.

Idea: passages are not independent: two that say the same are worth little more than one. A node of a tree is an ordered list of
passages; Monte-Carlo tree search descends by mean reward, novelty and cost, scores every way to add one passage, and returns the best
list met at any depth, which may be far below the budget.

Departs: see the card.

Shapes and units: ``budget_tokens`` of the target model's tokens; ``exploration`` and ``cost_weight`` are the paper's C and λ.
Cost: no call of the language model. With vectors, ``iterations`` times a product of the candidates' matrix with a vector; with a
cross-encoder, up to ``candidates`` pairs an iteration.
Errors: ConfigError for an option out of range.
"""

from __future__ import annotations

from typing import ClassVar

from baywindow.budget import Budgeted
from baywindow.context.base import Retriever
from baywindow.context.retrieve.corag.scores import RerankedScores, SetScores, VectorScores
from baywindow.context.retrieve.corag.search import Search
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.registry import technique


@technique(
    summary="the set of passages that is best together within a token budget (tree search)",
    paper="2411.00744",
    year=2024,
    needs=("text", "embedder"),
    claim="With redundant candidates, searching over sets picks smaller, less redundant ones than taking the best passages one by one.",
    departures=(
        "by default a list is scored by the cosine of the question with the sum of its passages' vectors, not by a cross-encoder: no "
        "download, and a redundant passage adds nothing; `rerank` names a cross-encoder to score the joined texts",
        "cost is counted in the target model's tokens, not in words, and lists above the budget are never made",
        "no learned agent chooses the reranker, C and λ for each question: it needs training data of its own",
    ),
)
class Corag(Budgeted, Retriever):
    default_budget_tokens: ClassVar[int] = 3000

    candidates: int = 100
    k: int = 20  # passages in a list at the most
    exploration: float = 1.41
    cost_weight: float = 0.1  # the demo's λ; the class default 1 outweighs cosines
    iterations: int = 100
    rerank: str | None = None  # cross-encoder id or folder

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("candidates", "k", "iterations"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        for name in ("exploration", "cost_weight"):
            if getattr(self, name) < 0:
                raise ConfigError.bad_value(name, getattr(self, name), "0 or more")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        found = run.corpus.vectors(query, self.candidates) if passages is None else passages[: self.candidates]
        if not found:
            return []
        costs = [run.model.count_tokens(p.text) for p in found]
        budget = self.budget_of(sum(costs) if passages is not None else run.model.context_length)
        search = Search(self._scores(run, query, found), costs, budget, self.k, self.exploration, self.cost_weight)
        search.run(self.iterations, lambda: run.meter.seconds_left() > 0)
        if not search.best:
            run.note(f"no passage fits corag's budget of {budget} tokens; the first one is given, to be cut by the reader")
            return found[:1]
        return [found[i] for i in search.best]

    def _scores(self, run: Run, query: str, found: list[Passage]) -> SetScores:
        if self.rerank is not None:
            return RerankedScores(self.rerank, query, [p.text for p in found])
        return VectorScores(run.corpus.embeddings(found), run.corpus.embed_query(query))
