"""LoCoMo's evidence: which turns of a very long conversation a memory, or a search, brings back for a question.

Paper: Maharana et al., 2024, arXiv 2402.17753, where recall of the labelled turns is the measure of retrieval. The files are those of
`locomo`. Every turn is a document of its own, ``Speaker: text``, with who spoke and when in its metadata; nothing is written by a model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from baywindow.bench.base import Sample, Suite, Turn, metric
from baywindow.bench.tasks._loading import Source, Subset, loaded
from baywindow.bench.tasks.locomo import CATEGORIES, WHERE, conversations
from baywindow.documents.base import Document

DEPTH = 10  # memories or passages, best first, among which evidence is looked for
_LABEL = re.compile(r"D:?(\d+):(\d+)")


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    number = 0
    for name, row in conversations(subset, path):
        documents = turns(row.get("conversation") or row.values, name)
        known = [document.metadata["ref"] for document in documents]
        for qa in row.get("qa") or []:
            evidence, _ = evidence_of(qa.get("evidence") or [], known)
            if qa.get("category") == CATEGORIES[subset.name] and evidence:
                told = {"document": name, "category": qa["category"], "answer": " ".join(evidence), "finds": True}
                yield subset.sample(number, documents, str(qa["question"]), evidence, **told)
                number += 1


def turns(talk: Mapping[str, Any], name: str) -> tuple[Document, ...]:
    """One document a turn, in order."""
    numbers = sorted(int(m.group(1)) for key in talk if (m := re.fullmatch(r"session_(\d+)", key)) and talk[key])
    made = []
    for n in numbers:
        at = spoken_at(talk[f"session_{n}_date_time"]).isoformat()
        for turn in talk[f"session_{n}"]:
            told = {"speaker": str(turn["speaker"]), "ref": str(turn["dia_id"]), "said_at": at, "session": str(n)}
            source = f"locomo/{name}/{turn['dia_id']}"
            made.append(Document(f"{turn['speaker']}: {said_in(turn)}", source, metadata=told))
    return tuple(made)


def said_in(turn: Mapping[str, Any]) -> str:
    """A turn's text, a shared picture told by its caption."""
    return str(turn["text"]) + (f" [shares a picture: {turn['blip_caption']}]" if turn.get("blip_caption") else "")


def spoken_at(text: str) -> datetime:
    """``1:56 pm on 8 May, 2023``; every turn of a session has the session's time."""
    return datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)


def evidence_of(labels: Iterable[str], known: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The turns that labels name, and the labels that name none. One label may name several (``D8:6; D9:17``); ``D:11:26`` is D11:26."""
    found: dict[str, None] = {}
    unusable = []
    for label in labels:
        named = [f"D{int(session)}:{int(turn)}" for session, turn in _LABEL.findall(label)]
        found |= dict.fromkeys(turn for turn in named if turn in known)
        if not named or any(turn not in known for turn in named):
            unusable.append(label)
    return tuple(found), tuple(unusable)


@metric
def evidence_recall(reply: str, turn: Turn) -> float:
    """The share of the evidence turns among those that the first ten finds rest on. A reply has a line for every find, best first, with
    the ids of its turns."""
    found = {ref for line in reply.strip().splitlines()[:DEPTH] for ref in line.split()}
    return sum(ref in found for ref in turn.gold) / len(turn.gold)


_SUBSETS = tuple(
    Subset(
        suite="locomo_evidence",
        name=name,
        summary=f"turns that answer a question found among the best ten: {summary}",
        scorer="evidence_recall",
        max_new_tokens=1,
        source=Source(names=("locomo10.json", "*.json"), where=WHERE),
    )
    for name, summary in (
        ("multi_hop", "several facts of several days"),
        ("temporal", "when it happened"),
        ("open_domain", "what can be concluded of a person"),
        ("single_hop", "one fact of one day"),
    )
)

SUITE = Suite(
    name="locomo_evidence",
    summary="evidence recall of memories and searches over very long conversations, by type of question",
    paper="arXiv 2402.17753",
    year=2024,
    claim="Observations made of a conversation are better units of retrieval than its turns.",
    departures=(
        "recall is of turns at ten finds; a find may rest on several turns (a summary on many), so prompt tokens stand beside it",
        "labels that name no turn are left out, and questions without any other; adversarial questions have no evidence to be found",
        "all turns of a session have the session's time, which is all the set says",
    ),
    tasks=tuple(loaded(subset, load) for subset in _SUBSETS),
)
