"""Clustered RAG: group what says the same, summarise each group once, and answer from the summaries.

Paper: Akesson 2024, Clustered Retrieved Augmented Generation (CRAG), arXiv 2406.00029. No public code was found.

Idea: many short overlapping texts (reviews, tickets, messages) are embedded and clustered; a model summarises each cluster; the
summaries together are the context of every question, so its size follows the number of clusters, not of texts.

Departs: see the card.

Shapes and units: at most ``clusters`` summaries of up to ``summary_tokens``, nearest to the question first.
Cost: once for a set of passages, one call a cluster (kept in the user's cache by model, options and texts); then one embedded question.
Errors: ConfigError for an option out of range; MissingExtraError without scikit-learn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baywindow.context.base import Retriever
from baywindow.context.condensed import written
from baywindow.context.kept import KeptTexts
from baywindow.context.later import answer_reserve
from baywindow.context.prompt import DATA_RULE, Packed, fenced, messages, pack_one
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import best_first
from baywindow.errors import ConfigError, MissingExtraError
from baywindow.registry import technique

SYSTEM = (
    "Summarise what the passages say, in a few short sentences. Keep names, numbers and disagreements. "
    f"Behind each statement put the numbers of its passages, like [1]. {DATA_RULE}"
)
EXAMPLES = (
    (
        "<passage [1] from a.txt:1>\nThe pool was cold.\n</passage>\n<passage [2] from b.txt:1>\nNice rooms, but no heating at the pool.\n"
        "</passage>\n\nSummary:",
        "Guests found the pool cold and unheated. [1][2] One liked the rooms. [2]",
    ),
)
MOST = 20_000  # passages of a corpus that are clustered


@technique(
    summary="summaries of clusters of similar passages, instead of the passages",
    paper="2406.00029",
    year=2024,
    needs=("text", "embedder"),
    claim="On many short overlapping texts, tokens per question stay nearly flat as texts are added, with answers still similar.",
    departures=(
        "the number of clusters is an option (the paper gives no rule); there are no more clusters than different texts",
        "summaries carry the marks of their passages, and a summary's own mark leads to the passage nearest to its cluster's centre",
        "summaries are ranked by their cluster's nearness to the question, so that a small window loses the farthest first",
        "a cluster that exceeds the window is summarised from the passages nearest to its centre, and a note says so",
    ),
)
class ClusteredRag(Retriever):
    clusters: int = 8
    summary_tokens: int = 96
    k: int = 20  # summaries given at the most
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clusters", "k", "summary_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        given = self._all(run) if passages is None else passages
        if not given:
            return []
        vectors = run.corpus.embeddings(given)
        groups = clustered(vectors, self.clusters, self.seed)
        centres = np.stack([vectors[group].mean(axis=0) for group in groups])
        summaries = self._summaries(run, given, groups)
        near = centres @ run.corpus.embed_query(query)
        found: list[Passage] = []
        for i in best_first(near.astype(np.float32), len(groups)):
            if (text := summaries[i]) is not None:
                found.append(replace(written(given[groups[i][0]], text), score=float(near[i])))
        return found[: self.k]

    def _all(self, run: Run) -> list[Passage]:
        found = [p for p, _ in zip(run.corpus.passages(), range(MOST + 1), strict=False)]
        if len(found) > MOST:
            run.note(f"only the first {MOST} passages were clustered")
        return found[:MOST]

    def _summaries(self, run: Run, given: list[Passage], groups: list[list[int]]) -> list[str | None]:
        """One text a cluster, from the cache where it is there; None for those that the budget did not allow."""
        kept = KeptTexts(run, "clusters", f"{self.summary_tokens}|{SYSTEM}")
        members = [[given[i] for i in group] for group in groups]
        missing = [n for n, group in enumerate(members) if not kept.has(group)]
        packs = [self._packed(run, members[n]) for n in missing]
        how = Call(name="summarise", max_new_tokens=self.summary_tokens, keep=answer_reserve(run), examples=EXAMPLES)
        replies = run.call_many([pack.prompt for pack in packs], how) if packs else []
        kept.keep({n: reply for n, reply in zip(missing, replies, strict=True) if reply}, members)
        texts = [kept.get(group) for group in members]
        if unmade := texts.count(None):
            run.note(f"{unmade} of {len(groups)} clusters were not summarised: the budget did not allow it")
        return texts

    def _packed(self, run: Run, group: list[Passage]) -> Packed:
        packed = pack_one(run, group, lambda shown: messages(SYSTEM, f"{fenced(run, shown)}\n\nSummary:"), self.summary_tokens)
        if packed.left_out_passages:
            run.note(f"{packed.left_out_passages} of {len(group)} passages of a cluster did not fit one prompt and were not summarised")
        return packed


def clustered(vectors: NDArray[np.float32], clusters: int, seed: int) -> list[list[int]]:
    """K-means: members of each cluster, those nearest to its centre first; clusters in order of their first member."""
    try:
        from sklearn.cluster import KMeans
    except ModuleNotFoundError:
        raise MissingExtraError.of("what clusters passages (scikit-learn)", "local") from None
    count = min(clusters, len(np.unique(vectors.round(5), axis=0)))
    fitted = KMeans(count, random_state=seed, n_init=4).fit(vectors.round(5))
    groups = [np.flatnonzero(fitted.labels_ == n) for n in range(count)]
    distances = fitted.transform(vectors)
    ordered = [[int(i) for i in group[np.argsort(distances[group, n], kind="stable")]] for n, group in enumerate(groups) if len(group)]
    return sorted(ordered, key=min)
