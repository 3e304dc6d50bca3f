"""LongMemEval: questions about a person's chats with an assistant over months, with the evidence in a few of many sessions.

Paper: Wu et al., 2024, LongMemEval: Benchmarking Chat Assistants on Long-Term Interactive Memory, arXiv 2410.10813; its code was read.
A record has ``question_id`` (one ending in ``_abs`` cannot be answered), ``question_type``, ``question``, ``answer``, ``question_date``,
``haystack_dates``, ``haystack_session_ids``, ``haystack_sessions`` and ``answer_session_ids``. Three files hold the same 500 questions: the
evidence alone (oracle), some 40 sessions (s), some 500 (m). A judge scores, by one rubric a type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from baywindow.bench.base import Sample, Suite
from baywindow.bench.tasks._hub import Hub
from baywindow.bench.tasks._loading import Row, Source, Subset, loaded
from baywindow.documents.base import Document
from baywindow.errors import SourceError

WHERE = "give the folder of longmemeval_oracle.json, longmemeval_s_cleaned.json and longmemeval_m_cleaned.json"
RUBRICS: Mapping[str, str] = {
    "single-session-user": "contains",
    "single-session-assistant": "contains",
    "multi-session": "contains",
    "temporal-reasoning": "temporal",
    "knowledge-update": "updated",
    "single-session-preference": "preference",
}


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    for number, row in enumerate(subset.source.rows(path)):
        kind, name = row.text("question_type"), row.text("question_id")
        if kind not in RUBRICS:
            raise SourceError(f"{row.place}: no question type is called {kind!r}", hint="there are " + ", ".join(RUBRICS))
        untold = name.endswith("_abs")
        question = row.text("question")
        yield subset.sample(
            number,
            sessions(row, f"longmemeval/{name}"),
            f"Current date: {row.get('question_date') or 'unknown'}\nQuestion: {question}",
            (row.text("answer"),),
            question=question,
            type=kind,
            rubric="abstains" if untold else RUBRICS[kind],
            abstains=untold,
            question_id=name,
            evidence=list(row.get("answer_session_ids") or []),
        )


def sessions(row: Row, name: str) -> tuple[Document, ...]:
    """One document a session, sorted by date as the published code sorts them. What marks the evidence (``has_answer``) is not shown."""
    dates, ids, chats = (row.get(key) or [] for key in ("haystack_dates", "haystack_session_ids", "haystack_sessions"))
    if not chats or not len(dates) == len(ids) == len(chats):
        raise SourceError(f"{row.place}: {len(dates)} dates, {len(ids)} ids, {len(chats)} sessions", hint="is this the published file?")
    listed = sorted(zip(dates, ids, chats, strict=True), key=lambda session: str(session[0]))
    return tuple(Document(_text(n, date, chat), f"{name}/{ident}") for n, (date, ident, chat) in enumerate(listed, 1))


def _text(number: int, date: str, chat: list[dict[str, Any]]) -> str:
    turns = [f"{turn.get('role', '')}: {str(turn.get('content', '')).strip()}" for turn in chat]
    return "\n\n".join([f"### Session {number}:\nSession date: {date}\nSession content:", *turns])


def _subset(name: str, summary: str, file: str) -> Subset:
    return Subset(
        suite="longmemeval",
        name=name,
        summary=summary,
        scorer="judged",
        max_new_tokens=500,
        instruction="Chats between you and a user follow, each with its date. Answer the question from what matters in them.",
        answer_prefix="Answer:",
        also=("token_f1", "token_recall", "includes_any"),
        cut="start",  # the published code keeps the latest sessions
        source=Source(names=(file, file.replace("_cleaned", "")), hub=Hub(repo="xiaowu0162/longmemeval-cleaned", file=file), where=WHERE),
    )


SUITE = Suite(
    name="longmemeval",
    summary="500 questions about a person's chats with an assistant, judged by one rubric a type",
    paper="arXiv 2410.10813",
    year=2024,
    claim="Reading the whole history of about 115k tokens loses much against reading the evidence sessions alone.",
    departures=(
        "prompt and rubrics keep the published structure in our own words; history is told as text, not as JSON",
        "a verdict is the judge's first word; the published code looks for 'yes' anywhere in it",
        "without a judge, the scores of words in common in 'also' are what can be had; they are not the paper's",
    ),
    tasks=tuple(
        loaded(_subset(name, summary, file), load)
        for name, summary, file in (
            ("oracle", "only the sessions with the evidence", "longmemeval_oracle.json"),
            ("s", "about 40 sessions, 115k tokens", "longmemeval_s_cleaned.json"),
            ("m", "about 500 sessions", "longmemeval_m_cleaned.json"),
        )
    ),
)
