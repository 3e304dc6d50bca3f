"""L-Eval: 20 sets of long documents with several questions each, exams scored exactly and open tasks scored by words in common.

Paper: An et al., 2023, L-Eval: Instituting Standardized Evaluation for Long Context Language Models, arXiv 2307.11088; its code was read.
A record is a document: ``input``, ``instructions``, ``outputs``, ``evaluation`` (``exam``, ``f1``, ``rouge``; ``human`` and ``LLM`` mark
what the paper compares with another model's replies, which are not part of the set: those records are left out).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from baywindow.bench.base import Sample, Suite, Turn
from baywindow.bench.tasks._loading import Row, Subset, loaded
from baywindow.bench.tasks.l_eval import _scores
from baywindow.bench.tasks.l_eval._subsets import SUBSETS
from baywindow.documents.base import Document
from baywindow.errors import SourceError

_BY_EVALUATION = {"f1": "token_f1", "rouge": "rouge_l"}
_COMPARED = ("human", "LLM")


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    number = 0
    for n, row in enumerate(subset.source.rows(path)):
        if row.get("evaluation") in _COMPARED:
            continue
        document = Document(row.text("input"), f"{subset.task}/{n}")
        questions, answers = row.texts("instructions"), row.texts("outputs")
        if len(questions) != len(answers):
            raise SourceError(f"{row.place}: {len(questions)} instructions, {len(answers)} outputs", hint="is this the published file?")
        for position, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            yield _sample(subset, number, row, document, question, answer, position)
            number += 1


def _sample(subset: Subset, number: int, row: Row, document: Document, question: str, answer: str, position: int) -> Sample:
    told = {"document": document.source, "position": position, "evaluation": str(row.get("evaluation") or "")}
    if subset.name == "sci_fi":
        return _two_turns(subset, number, document, question, answer, told)
    if subset.scorer.startswith("l_eval"):
        return subset.sample(number, (document,), question, (answer,), **told)
    # The published code tells how long the reference is: without it, scores of words in common mostly rank brevity.
    asked = f"{question} Write about {len(answer.split())} words."
    scorer = _BY_EVALUATION.get(str(row.get("evaluation")), subset.scorer)
    return subset.sample(number, (document,), asked, (answer,), **told | {"scorer": scorer, "question": question})


def _two_turns(subset: Subset, number: int, document: Document, question: str, answer: str, told: dict[str, object]) -> Sample:
    """True or false in the story, then true or false in the world: the gold is ``True [fact: False]``."""
    story, fact = _scores.story_and_fact(answer)
    first = subset.sample(number, (document,), question, (story,), **told)
    asked = "Is the same statement true in the real world, by what you know of it? Reply True or False."
    turn = Turn(
        question=asked,
        gold=(fact,),
        scorer=subset.scorer,
        max_new_tokens=subset.max_new_tokens,
        answer_prefix=subset.answer_prefix,
        metadata={"question": asked, "answer": fact},
    )
    return Sample(**{**vars(first), "turns": (turn,)})


SUITE = Suite(
    name="l_eval",
    summary="20 sets of long documents: exams scored exactly, open questions and summaries by words in common",
    paper="arXiv 2307.11088",
    year=2023,
    claim="Telling the model how many words the reference has brings F1 and ROUGE nearer to what a judge prefers.",
    departures=(
        "prompts keep the published structure (task, document, question, answer begun) in our own words",
        "a reply from which no letter can be read scores 0; the published code guesses A",
        "coursera: half-right sets of letters earn a quarter, as published, but only if at least one letter was read",
        "summaries by ROUGE-L; the published code also makes a geometric mean of three ROUGEs, here `rouge_mean`, named in 'also'",
        "records judged against another model's replies are left out; `Judge.prefer` compares two replies in both orders",
        "sci_fi's question on the real world is a second turn of its own, scored like the first; the published figure is their mean",
    ),
    tasks=tuple(loaded(subset, load) for subset in SUBSETS),
)
