"""Extractive: keep the sentences that have to do with the question, word for word.

Paper: Jha 2024, Characterizing Prompt Compression Methods for Long Context Inference, arXiv 2407.08892.

Idea: score every sentence against the question; keep the best until the budget is full; within a passage they stay in the order of the
text. Nothing is rewritten and no sentence is cut, so names, numbers and syntax survive.

Departs: see the card.

Shapes and units: ``budget_tokens`` of the target model over all passages together, without the fences of a prompt. A passage of which
one stretch is left is an exact span again; one with gaps is a `Condensed` whose pieces are exact spans.
Cost: no model call. ``by="words"`` is one BM25 over the sentences; the others embed each sentence once, O(sentences).
Errors: ConfigError for an option out of range; MissingExtraError where ``by`` needs an embedder and there is none.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from baywindow.budget import Budgeted
from baywindow.context.base import Compressor
from baywindow.context.compress._budget import best_units, say_dropped, share
from baywindow.context.compress._units import Unit, sentence_units
from baywindow.context.condensed import exact, narrowed
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import Bm25, best_first
from baywindow.errors import ConfigError
from baywindow.registry import technique


@technique(
    summary="keep the sentences that have to do with the question, word for word",
    paper="2407.08892",
    year=2024,
    needs=("embedder",),
    claim="Extractive compression keeps more of the answers than pruning single tokens, up to ten times shorter.",
    departures=(
        "sentences are scored by BM25 and an embedder, not by a trained reranker: neither needs a download",
        "a passage's sentences are scored alone; the best are kept over all passages, not a fixed share of each",
    ),
)
class Extractive(Budgeted, Compressor):
    default_budget_tokens: ClassVar[int] = 1024

    by: Literal["words", "meaning", "both"] = "both"
    alpha: float = 0.5  # with both: the weight of meaning

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in ("words", "meaning", "both"):
            raise ConfigError.bad_value("by", self.by, "words, meaning or both")
        if not 0 <= self.alpha <= 1:
            raise ConfigError.bad_value("alpha", self.alpha, "from 0 to 1")

    def compress(self, run: Run, passages: list[Passage]) -> list[Passage]:
        given, budget = share(run, self, passages)
        if given <= budget:
            return list(passages)
        units = sentence_units(passages)
        scores = self.scores(run, passages, units)
        kept = best_units(run, passages, [units[i] for i in best_first(scores, len(units))], budget)
        say_dropped(run, self.card.name, given, passages, kept)
        return kept

    def scores(self, run: Run, passages: list[Passage], units: list[Unit]) -> NDArray[np.float32]:
        """How well each sentence fits the question, higher is better; from 0 to 1 with both."""
        words = meaning = np.zeros(len(units), dtype=np.float32)
        if self.by != "meaning":
            words = Bm25([passages[u.passage].text[u.start : u.end] for u in units]).scores(run.question)
        if self.by != "words":
            meaning = run.corpus.embeddings([_alone(passages[u.passage], u) for u in units]) @ run.corpus.embed_query(run.question)
        if self.by != "both":
            return words if self.by == "words" else meaning
        # Both are scaled from the lowest value their kind can have to the best one here, as `hybrid` does with passages.
        mixed: NDArray[np.float32] = (1 - self.alpha) * _scaled(words, 0.0) + self.alpha * _scaled(meaning, -1.0)
        return mixed


def _alone(passage: Passage, unit: Unit) -> Passage:
    """One sentence as a passage. Never equal to a stored one by span alone: its text may be condensed."""
    found = narrowed(passage, [unit.span])
    return exact(passage, unit.start, unit.end) if found is None else found


def _scaled(scores: NDArray[np.float32], lowest: float) -> NDArray[np.float32]:
    best = float(scores.max(initial=lowest)) - lowest
    scaled: NDArray[np.float32] = (scores - lowest) / (best or 1.0)
    return scaled
