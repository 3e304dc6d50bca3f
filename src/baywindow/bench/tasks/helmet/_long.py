"""HELMET's long questions and summaries: texts longer than any level, to be cut at their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from baywindow.bench.base import Sample
from baywindow.bench.tasks._loading import Row, documents_of
from baywindow.bench.tasks.helmet._demos import seeded, with_shown
from baywindow.bench.tasks.helmet._tables import Part
from baywindow.errors import SourceError


class Told(NamedTuple):
    """What a record of a long text tells."""

    text: str
    question: str
    gold: Sequence[str]


def narrativeqa(part: Part, row: Row) -> Told | None:
    document, question = row.get("document") or {}, row.get("question") or {}
    text = document.get("text", "") if isinstance(document, dict) else str(document)
    asked = question.get("text", "") if isinstance(question, dict) else str(question)
    return Told(text, asked, [str(a.get("text", a) if isinstance(a, dict) else a) for a in row.get("answers") or []])


def book(part: Part, row: Row) -> Told | None:
    question, gold = str(row.get("input") or ""), list(row.texts("answer"))
    if "choice" in part.name:
        options = row.texts("options")
        if not gold or gold[0] not in options:
            raise SourceError(f"{row.place}: the answer is none of the options", hint="is this the published file?")
        right = "ABCD"[options.index(gold[0])]
        gold = [right, f"{right}. {gold[0]}"]
        question += "\nOptions:\n" + "\n".join(f"{mark}. {option}" for mark, option in zip("ABCD", options, strict=False))
    return Told(row.text("context"), question, gold)


def lexsum(part: Part, row: Row) -> Told | None:
    summary = row.get("summary/short")
    return Told("\n\n".join(row.texts("sources")), "", [str(summary)]) if summary else None


LONG: Mapping[str, Callable[[Part, Row], Told | None]] = {"narrativeqa": narrativeqa, "book": book, "lexsum": lexsum}


def long(part: Part, path: Path | None) -> Iterator[Sample]:
    """Long texts, to be cut at their end to the level's context tokens by whoever has a tokenizer.

    Demonstrations are questions and answers of other records, without their texts. The file is read twice: its texts are too long
    to keep.
    """
    read = LONG[part.kind]
    briefs = [(told.question, told.gold[0]) for row in part.source.rows(path) if (told := read(part, row)) and told.gold]
    order = seeded("").sample(range(len(briefs)), len(briefs))
    number = 0
    for row in part.source.rows(path):
        if (told := read(part, row)) is None or not told.gold:
            continue
        drawn = [briefs[i] for i in order if i != number][: part.shots]
        shown = "\n\n".join(f"[the text]\n{part.ask.format(question=q)}\n{part.answer_prefix} {a}" for q, a in drawn)
        documents = documents_of(told.text, f"{part.task}/{number}")
        extra = {"context_tokens": part.context_tokens, "instruction": with_shown(part.instruction, shown), "shots": len(drawn)}
        yield part.sample(number, documents, told.question, told.gold, **extra)
        number += 1
