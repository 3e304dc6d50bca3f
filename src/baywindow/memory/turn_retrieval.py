"""Turn retrieval: the turns nearest to the question, word for word. No model is needed to write or to find.

Idea: what was said is its own best memory: search it by BM25, by embeddings, or by both (Bruch 2022, arXiv 2210.11934, joins the two),
and show the best turns in the order they were said. ``neighbours`` adds the turns around each hit, since an answer often stands in
the reply to the sentence that matches.

Cost: one embedded question, one search; adding embeds each turn once. Errors: ConfigError for an option out of range.
"""

from __future__ import annotations

from typing import Literal

from baywindow.errors import ConfigError
from baywindow.memory.base import MemorySystem
from baywindow.memory.records import Recalled, of_turn
from baywindow.memory.work import Work
from baywindow.registry import technique


@technique(
    summary="the turns nearest to the question, word for word, by words, meaning or both",
    needs=("embedder",),
    claim="Plain retrieval over turns finds most of the evidence that memories of extracted facts find.",
)
class TurnRetrieval(MemorySystem):
    k: int = 20
    by: Literal["words", "meaning", "both"] = "both"
    neighbours: int = 0  # turns before and after each hit

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise ConfigError.bad_value("k", self.k, "at least 1")
        if self.neighbours < 0:
            raise ConfigError.bad_value("neighbours", self.neighbours, "at least 0")

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self.by == "words" else self.card.needs

    def search(self, work: Work, query: str, k: int) -> list[Recalled]:
        return [of_turn(turn, score) for turn, score in work.near_turns(query, k, by=self.by)]

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        best = work.packed(self._with_neighbours(work, self.search(work, query, self.k)), budget_tokens)
        return sorted(best, key=lambda one: (one.said_at, work.turns(one.turns)[0].n))

    def _with_neighbours(self, work: Work, found: list[Recalled]) -> list[Recalled]:
        """The hits with the turns around them, each once, a hit's neighbours behind it."""
        if not self.neighbours:
            return found
        turns = work.turns()
        place = {turn.id: at for at, turn in enumerate(turns)}
        shown: dict[str, Recalled] = {}
        for one in found:
            at = place[one.turns[0]]
            shown.setdefault(one.id, one)
            for other in turns[max(0, at - self.neighbours) : at + self.neighbours + 1]:
                shown.setdefault(other.id, of_turn(other, one.score))
        return list(shown.values())
