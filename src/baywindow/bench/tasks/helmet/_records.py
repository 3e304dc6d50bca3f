"""HELMET's records as samples, one function a kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from baywindow.bench.base import Sample
from baywindow.bench.tasks._loading import Row
from baywindow.bench.tasks.helmet._demos import balanced, examples, seeded, with_shown
from baywindow.bench.tasks.helmet._long import LONG, long
from baywindow.bench.tasks.helmet._tables import Part
from baywindow.documents.base import Document
from baywindow.errors import SourceError

POPULAR = 3  # popqa keeps what has fewer than 10^3 views a month
_ASQA = (
    "Answer the question from the documents only; some of them may not matter. Be exact, brief and neutral, and cite a document for every "
    "fact by its number in square brackets, such as [2], several as [2][5]."
)
_QAMPARI = (
    "List the answers to the question from the documents only; some of them may not matter. Part them by commas and cite for each the one "
    "document it is from, by its number in square brackets, such as [2]. If there are more than five answers, name at least five."
)


def ruler(part: Part, number: int, row: Row, demos: Sequence[Row]) -> Sample:
    kind, query = str(row.get("type_needle_v") or "numbers"), str(row.get("query") or row.get("question") or "")
    wanted = "all the special magic" if "mv" in part.name or "mq" in part.name else "the special magic"
    asked = f"What {'are' if wanted.startswith('all') else 'is'} {wanted} {kind} for {query} in the text?"
    gold = row.texts("answer") or row.texts("outputs")
    text = Document(row.text("context"), f"{part.task}/{number}")
    told = {"instruction": f"Special magic {kind} are hidden in this text. Remember them: you will be asked.", "answer": ", ".join(gold)}
    return part.sample(number, (text,), asked, gold, **told)


def json_kv(part: Part, number: int, row: Row, demos: Sequence[Row]) -> Sample:
    shown = "".join(f"Key: {key}\nCorresponding value: {value}\n\n" for key, value in (row.get("demos") or [])[: part.shots])
    key = row.text("question")
    text = Document(row.text("context"), f"{part.task}/{number}")
    return part.sample(number, (text,), f"{shown}Key: {key}", row.texts("answer"), question=key)


def rag(part: Part, number: int, row: Row, demos: Sequence[Row]) -> Sample | None:
    if "popqa" in part.name and float(row.get("s_pop") or 1) > 0 and math.log10(float(row.get("s_pop") or 1)) >= POPULAR:
        return None
    question = row.text("question")
    others = [d for d in demos if d.get("question") != question]
    drawn = seeded(str(row.get("id") or question), 0).sample(others, min(part.shots, len(others)))
    shown = "\n\n".join(f"{_passages(d)}\n\nQuestion: {d.text('question')}\nAnswer: {d.texts('answers')[0]}" for d in drawn)
    documents = [Document(_passage(c), f"{part.task}/{number}/{i}") for i, c in enumerate(row.get("ctxs") or [], 1)]
    return part.sample(number, documents, question, row.texts("answers"), instruction=with_shown(part.instruction, shown), shots=len(drawn))


def rerank(part: Part, number: int, row: Row, demos: Sequence[Row]) -> Sample:
    query, listed = row.text("query"), row.get("ctxs") or []
    others = [d for d in demos if d.get("qid") != row.get("qid")]
    drawn = seeded(str(row.get("qid")), 0).sample(others, min(part.shots, len(others)))
    shown = "\n\n".join(f"{_ranked(d.get('ctxs'))}\n\nQuery: {d.text('query')}\nRanking: {_order(d.get('ctxs'))}" for d in drawn)
    documents = [Document(_with_id(c), f"{part.task}/{number}/{c['id']}") for c in listed]
    relevance = {str(c["id"]): int(c["label"]) for c in listed}
    told = {"relevance": relevance, "instruction": with_shown(part.instruction, shown), "shots": len(drawn)}
    return part.sample(number, documents, query, (_order(listed),), **told)


def icl(part: Part, number: int, row: Row, demos: Sequence[Row]) -> Sample:
    text = row.text("text")
    draw = seeded(text)
    names = sorted({d.text("label") for d in demos})
    numbers = list(range(len(names)))
    draw.shuffle(numbers)
    label = dict(zip(names, map(str, numbers), strict=True))
    if row.text("label") not in label:
        raise SourceError(f"{row.place}: no example has the label {row.text('label')!r}", hint=f"give {part.demos} beside the test file")
    shown = "\n\n".join(f"{d.text('text')}\nlabel: {label[d.text('label')]}" for d in balanced(demos, part.count, draw))
    document = Document(shown, f"{part.task}/{number}")
    return part.sample(number, (document,), text, (label[row.text("label")],), labels=len(names))


def cite(part: Part, number: int, row: Row, demos: Sequence[Row]) -> Sample:
    listing = "qampari" in part.name
    shown = [{"title": str(d.get("title", "")), "text": str(d.get("text", ""))} for d in (row.get("docs") or [])[: part.count]]
    documents = [Document(f"Document [{i}](Title: {d['title']}): {d['text']}", f"{part.task}/{number}/{i}") for i, d in enumerate(shown, 1)]
    aliases = row.get("answers") if listing else [pair["short_answers"] for pair in row.get("qa_pairs") or []]
    gold = [accepted[0] for accepted in aliases or [] if accepted]
    told = {
        "aliases": [list(accepted) for accepted in aliases or []],
        "passages": [f"Title: {d['title']}\n{d['text']}" for d in shown],
        "items": listing,
        "instruction": with_shown(_QAMPARI if listing else _ASQA, _cited(demos, part.shots)),
        "answer": ", ".join(gold) if listing else "; ".join(gold),
    }
    return part.sample(number, documents, row.text("question"), gold, **told)


KINDS: Mapping[str, Callable[[Part, int, Row, Sequence[Row]], Sample | None]] = {
    "ruler": ruler,
    "json_kv": json_kv,
    "kilt": rag,
    "rerank": rerank,
    "icl": icl,
    "cite": cite,
}


def samples(part: Part, path: Path | None) -> Iterator[Sample]:
    """All samples of a part, numbered in the file's order; records that the published code filters out leave no gap."""
    if part.kind in LONG:
        yield from long(part, path)
        return
    demos, number = examples(part, path), 0
    for row in part.source.rows(path):
        if sample := KINDS[part.kind](part, number, row, demos):
            yield sample
            number += 1


def _passage(context: Mapping[str, Any]) -> str:
    return f"Document (Title: {context.get('title', '')}): {context.get('text', '')}"


def _passages(row: Row) -> str:
    return "\n\n".join(_passage(c) for c in row.get("ctxs") or [])


def _with_id(context: Mapping[str, Any]) -> str:
    title = f" (Title: {context['title']})" if "title" in context else ""
    return f"[ID: {context['id']}] Document{title}: {context.get('text', '')}"


def _ranked(contexts: Sequence[Mapping[str, Any]]) -> str:
    return "\n\n".join(_with_id(c) for c in contexts)


def _order(contexts: Sequence[Mapping[str, Any]]) -> str:
    return " > ".join(str(c["id"]) for c in sorted(contexts, key=lambda c: int(c["label"]), reverse=True))


def _cited(demos: Sequence[Row], shots: int) -> str:
    """Demonstrations of a prompt file: its first ones, each with its documents."""
    listed = [demo for row in demos for demo in row.get("demos") or []][:shots]
    made = []
    for demo in listed:
        documents = "\n\n".join(f"Document [{i}](Title: {d['title']}): {d['text']}" for i, d in enumerate(demo["docs"], 1))
        made.append(f"Question: {demo['question']}\n\n{documents}\n\nAnswer: {demo['answer']}")
    return "\n\n\n".join(made)
