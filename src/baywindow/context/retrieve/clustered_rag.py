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

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baywindow.context.base import Retriever
from baywindow.context.cite import MARK
from baywindow.context.condensed import written
from baywindow.context.later import answer_reserve
from baywindow.context.prompt import DATA_RULE, Packed, fenced, messages, pack_one
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import best_first
from baywindow.errors import ConfigError, MissingExtraError
from baywindow.home import cache_dir
from baywindow.models.fingerprint import write_json
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
        store = self._store(run)
        known: dict[str, str] = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
        members = [[given[i] for i in group] for group in groups]
        keys = [_key(group) for group in members]
        missing = [n for n, key in enumerate(keys) if key not in known]
        packs = [self._packed(run, members[n]) for n in missing]
        how = Call(name="summarise", max_new_tokens=self.summary_tokens, keep=answer_reserve(run), examples=EXAMPLES)
        replies = run.call_many([pack.prompt for pack in packs], how) if packs else []
        made = {keys[n]: _counted(run, reply, members[n]) for n, reply in zip(missing, replies, strict=True) if reply}
        if made:
            write_json(store, {**known, **made})
        known |= made
        if unmade := sum(key not in known for key in keys):
            run.note(f"{unmade} of {len(groups)} clusters were not summarised: the budget did not allow it")
        return [_marked(run, known[key], group) if key in known else None for key, group in zip(keys, members, strict=True)]

    def _packed(self, run: Run, group: list[Passage]) -> Packed:
        packed = pack_one(run, group, lambda shown: messages(SYSTEM, f"{fenced(run, shown)}\n\nSummary:"), self.summary_tokens)
        if packed.left_out_passages:
            run.note(f"{packed.left_out_passages} of {len(group)} passages of a cluster did not fit one prompt and were not summarised")
        return packed

    def _store(self, run: Run) -> Path:
        what = f"{run.model.fingerprint}|{self.summary_tokens}|{SYSTEM}"
        return cache_dir("clusters") / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"


def _key(group: list[Passage]) -> str:
    return hashlib.sha256("\0".join(f"{p.source}\0{p.start}\0{p.text}" for p in group).encode()).hexdigest()[:32]


def _counted(run: Run, text: str, group: list[Passage]) -> str:
    """The marks of this run as places in the cluster, from 1, so that another run can use the summary; unknown marks go."""
    places = {run.number(p): i for i, p in enumerate(group, 1) if p.key in {q.key for q in run.numbered.values()}}
    return MARK.sub(lambda m: "".join(f"[{places[int(n)]}]" for n in re.findall(r"\d+", m.group(1)) if int(n) in places), text)


def _marked(run: Run, text: str, group: list[Passage]) -> str:
    """Places in the cluster as marks of this run."""
    return MARK.sub(lambda m: "".join(f"[{run.number(group[int(n) - 1])}]" for n in re.findall(r"\d+", m.group(1))), text)


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
