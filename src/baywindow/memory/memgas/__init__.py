"""Sessions seen four ways (whole, by turn, by summary, by keywords), linked where they are alike, and found by the views that tell most.

Paper: Xu et al. 2025, Towards Multi-Granularity Memory Association and Selection for Long-Term Conversational Agents,
arXiv:2505.19549; read beside it: github.com/quqxui/MemGAS.
Idea: a model writes a summary and keywords of each ended session. A mixture of two Gaussians over similarities tells which older views a
new one is linked to. A question weighs the views by how sharply each points to some session, starts a personalised PageRank at the
best ``seeds`` views, and a model throws out the turns of the best ``k`` sessions that do not help.
Departs from the paper: see the card.
Shapes and units: view order is session, turns, summary, keywords; ``temperature`` divides cosines; ``damping`` is the chance to follow a
link. The arithmetic is in ``graph``.
Cost: two calls an ended session (more if it does not fit the window); a recall embeds the question, the open session and the turns of
the ``k`` best, and makes ``k`` calls with ``filtered``, else none.
Errors: ConfigError for an option out of range; MissingExtraError without scikit-learn. A spoilt description leaves a session that is
found by its own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np

from baywindow.errors import ConfigError
from baywindow.memory.base import MemorySystem, at_least
from baywindow.memory.memgas.describe import SESSION, describe, helpful
from baywindow.memory.memgas.graph import Floats, pagerank, seeds, trust
from baywindow.memory.memgas.views import VIEWS, View, described, linked, links_of, packed, undescribed, vectors_of
from baywindow.memory.records import Recalled, Turn, of_turn
from baywindow.memory.sessions import sessions
from baywindow.memory.summaries import unfolded
from baywindow.memory.work import Work
from baywindow.registry import technique


@technique(
    summary="sessions by four views, linked by likeness, chosen by the sharpest views and a walk",
    paper="arXiv:2505.19549",
    year=2025,
    needs=("text", "embedder"),
    claim="Mixing session, turn, summary and keyword views by entropy finds more sessions than any one view or equal weights.",
    departures=(
        "entropy is divided by log n: in nats it exceeds 1, and then the code gives the vaguest view the most weight",
        "the filter names the numbers of turns instead of copying them, so that nothing can be reworded, and sees one session a call",
        "the session that is still open is searched by its own words: the paper has no open sessions",
        "a keyword that the session does not hold is dropped, as is a sentence with an unsaid name: nothing may be invented",
        "sessions without names are told apart by a pause of six hours: not everybody names them",
        "the answer is the asking recipe's own call; the code's prompt repeats the filtered text once a session",
    ),
)
class MemGAS(MemorySystem):
    k: int = 3  # sessions
    seeds: int = 15
    candidates: int = 30
    temperature: float = 0.2
    damping: float = 0.1
    first_linked: int = 5  # sessions that get no links of their own
    filtered: bool = True
    summary_tokens: int = 160
    gap_hours: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, k=1, seeds=1, candidates=3, first_linked=1, summary_tokens=16, gap_hours=0)
        if not self.temperature > 0:
            raise ConfigError.bad_value("temperature", self.temperature, "above 0")
        if not 0 <= self.damping < 1:
            raise ConfigError.bad_value("damping", self.damping, "at least 0 and below 1")

    def absorb(self, work: Work, turns: Sequence[Turn]) -> None:
        *ended, _ = sessions(self._open(work), timedelta(hours=self.gap_hours)) or [[]]
        for session in ended:
            older = described(work)
            made = describe(work, session, self.summary_tokens)
            own = View(made.turns, vectors_of(work, session, made.text, ", ".join(made.data["keywords"])), made)
            older = [view for view in older if view.record is not None and view.record.id != made.id]
            links = linked(own, older, self.candidates) if len(older) >= self.first_linked else []
            work.annotate(made, {**made.data, **packed(work, own.vectors), "links": links})

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        ranked = self._ranked(work, query)
        found = self._scored(work, query, ranked[: self.k])
        if self.filtered:
            kept = {turn.id for view, _ in ranked[: self.k] for turn in helpful(work, query, work.turns(view.turns))}
            found = [one for one in found if one.id in kept] or found  # an over-strict filter must not lose what was found
        return sorted(work.packed(found, budget_tokens), key=lambda one: one.said_at)

    def search(self, work: Work, query: str, k: int) -> list[Recalled]:
        return self._scored(work, query, self._ranked(work, query)[: max(self.k, k)])[:k]

    def _ranked(self, work: Work, query: str) -> list[tuple[View, float]]:
        """Sessions with what the walk gives their four views together, best first."""
        views = described(work) + [undescribed(work, one) for one in sessions(self._open(work), timedelta(hours=self.gap_hours))]
        if not views:
            return []
        similar = np.stack([view.vectors for view in views]) @ work.embed_query(query)  # (session, view)
        weighed: Floats = similar * trust(similar.T.astype(np.float64), self.temperature)
        reached = pagerank(links_of(views), seeds(weighed.ravel(), self.seeds), self.damping)
        scores = reached.reshape(len(views), VIEWS).sum(axis=1)
        return [(views[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")]

    def _scored(self, work: Work, query: str, ranked: Sequence[tuple[View, float]]) -> list[Recalled]:
        """The turns of some sessions: each by its own likeness to the question and its session's share of the walk."""
        most = max((score for _, score in ranked), default=0.0) or 1.0
        turns = [(turn, score / most) for view, score in ranked for turn in work.turns(view.turns)]
        if not turns:
            return []
        near = work.embed([turn.line for turn, _ in turns]) @ work.embed_query(query)
        found = [replace(of_turn(turn), score=share + float(own)) for (turn, share), own in zip(turns, near, strict=True)]
        return sorted(found, key=lambda one: -one.score)

    def _open(self, work: Work) -> list[Turn]:
        return unfolded(work, {turn for record in work.records(SESSION) for turn in record.turns})
