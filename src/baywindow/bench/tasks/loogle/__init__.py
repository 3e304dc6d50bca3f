"""LooGLE: questions, clozes and summaries of texts that are younger than most training data, split by how far the evidence is scattered.

Paper: Li et al., 2023, LooGLE: Can Long-Context Language Models Understand Long Contexts?, arXiv 2311.04939; its code was read.
A record is a document: ``input``, ``title``, ``qa_pairs`` (a list of ``Q``, ``A``, ``S`` and for long dependencies ``type``, in the
published files written as a Python literal) or ``output`` for summaries. A literal is read as one; the published code runs it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baywindow.bench.base import Sample, Suite
from baywindow.bench.tasks._hub import Hub
from baywindow.bench.tasks._loading import Row, Source, Subset, loaded
from baywindow.bench.tasks.loogle import _scores
from baywindow.documents.base import Document
from baywindow.errors import SourceError

WHERE = "give the folder of the set's files; a task is the file NAME.jsonl (timeline_reorder is in longdep_qa.jsonl)"
_QUESTION = "Question: {question}"
_CLOZE = (
    "Question: {question}\nWhich entities are masked? Each <mask-n> is a person, a place or an organisation, and the same mask is the same "
    'entity. Reply with a JSON object such as {{"<mask-0>": "Mary", "<mask-1>": "Oslo"}}.'
)


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    number = 0
    for row in subset.source.rows(path):
        document = Document(row.text("input"), f"{subset.task}/{row.get('title') or number}")
        for question, answer, told in _asked(subset, row):
            yield subset.sample(number, (document,), question, (answer,), document=document.source, **told)
            number += 1


def _asked(subset: Subset, row: Row) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Question, answer and what else is told of it."""
    if subset.name == "longdep_summarization":
        yield "", row.text("output"), {}
        return
    for pair in _pairs(row):
        kind = str(pair.get("type", ""))
        if subset.name in ("longdep_qa", "timeline_reorder") and (subset.name == "timeline_reorder") != _scores.is_timeline(kind):
            continue
        answer = pair["A"] if isinstance(pair["A"], str) else json.dumps(pair["A"], ensure_ascii=False)
        evidence = pair.get("S") or []
        yield str(pair["Q"]), answer, {"type": kind, "evidence": [evidence] if isinstance(evidence, str) else list(evidence)}


def _pairs(row: Row) -> list[dict[str, Any]]:
    value = row.get("qa_pairs")
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise SourceError(f"{row.place}: qa_pairs is no list of questions", hint="is this the published file?") from None
    if not isinstance(value, list) or not all(isinstance(pair, dict) and {"Q", "A"} <= set(pair) for pair in value):
        raise SourceError(f"{row.place}: qa_pairs is no list of questions", hint="is this the published file?")
    return value


def _subset(name: str, summary: str, scorer: str, tokens: int, **frame: Any) -> Subset:
    file = "longdep_qa" if name == "timeline_reorder" else name
    source = Source(names=(f"{file}.jsonl",), hub=Hub(repo="bigai-nlco/LooGLE", config=file), where=WHERE)
    return Subset(suite="loogle", name=name, summary=summary, scorer=scorer, max_new_tokens=tokens, source=source, **frame)


_QA = {"instruction": "Answer the question from the long text.", "ask": _QUESTION, "answer_prefix": "Answer: "}
_SUBSETS = (
    _subset(
        "shortdep_qa",
        "questions whose evidence is in one place",
        "rouge_l",
        300,
        also=("token_f1", "rouge_1_recall", "rouge_l_recall", "judged"),
        **_QA,
    ),
    _subset(
        "shortdep_cloze",
        "entities masked in a summary of one place",
        "loogle_cloze",
        50,
        also=("loogle_cloze_partial",),
        instruction="Fill in what is masked, from the long text.",
        ask=_CLOZE,
        answer_prefix="Answer: ",
    ),
    _subset(
        "longdep_qa",
        "questions whose evidence is scattered: comprehension, several places, calculation",
        "rouge_l",
        500,
        also=("token_f1", "rouge_1_recall", "rouge_l_recall", "judged"),
        **_QA,
    ),
    _subset("timeline_reorder", "events to be put in order", "loogle_timeline", 500, also=("loogle_swaps", "loogle_displacement"), **_QA),
    _subset(
        "longdep_summarization",
        "summary of a scientific paper",
        "rouge_l",
        500,
        also=("rouge_1_recall", "rouge_l_recall", "judged_quality"),
        instruction="Summarise the paper.",
        ask="Summarise the paper above.",
        answer_prefix="Summary: ",
    ),
)

SUITE = Suite(
    name="loogle",
    summary="questions, clozes, timelines and summaries of recent long texts, by how far the evidence is scattered",
    paper="arXiv 2311.04939",
    year=2023,
    claim="Models do much better where the evidence is in one place than where it is scattered, and retrieval helps only the former.",
    departures=(
        "prompts keep the published structure (task, text, question, answer) in our own words; a summary is asked for again at the end",
        "ROUGE-L by F-measure; the published recall, which any long answer wins, is named in 'also'",
        "BLEU, METEOR and BERTScore are left out: n-gram scores of the same kind, and a model to download",
        "timelines are a task of their own; a wrong number of events scores 0 (the published code yields the string None)",
        "the published timeline score prints the largest possible deviation in place of the measured one; ours is 1 - deviation / largest",
        "swap distance is left out: it equals half the total displacement, so both are one figure once normalised",
    ),
    tasks=tuple(loaded(subset, load) for subset in _SUBSETS),
)
