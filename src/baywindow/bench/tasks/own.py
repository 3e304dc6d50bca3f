"""Questions from a person's own documents (SWiM): the part that answers stands at a chosen depth, among a chosen amount of others.

Paper: Dsouza et al. 2024, arXiv:2407.03651; the authors' code was read. The questions come from `bay bench own` (see `bench.own`).
Position: parts fill the window, the answering one at depth 0, 1/4, 1/2, 3/4 or 1, in turn. Size: the answering part with none, 1/4, 1/2,
3/4 or all of the others that fit. Which others, and their order, is the question's number's to say.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from baywindow.bench.base import Loaded, Sample, Suite, Turn, metric
from baywindow.bench.metrics.match import normalised
from baywindow.bench.own import OwnFile, Part, Question
from baywindow.documents.base import Document
from baywindow.errors import SourceError

WHERE = "the file that `bay bench own FOLDER` wrote"
INSTRUCTION = "Answer the question from the documents below."
STEPS = 5
JOINT_TOKENS = 4  # between two parts, and around them
QUESTION_TOKENS = 64


def load(name: str, path: Path | None) -> Iterator[Sample]:
    """One sample a question, in the file's order."""
    if path is None:
        raise SourceError("own needs questions from your documents", hint=f"--data own=FILE: {WHERE}")
    own = OwnFile.load(path)
    for number, question in enumerate(own.questions):
        step = (number % STEPS) / (STEPS - 1)
        yield _sample(
            name, own, number, question, depth=step if name == "own.position" else 0.5, share=1.0 if name == "own.position" else step
        )


def _sample(name: str, own: OwnFile, number: int, question: Question, *, depth: float, share: float) -> Sample:
    gold = own.parts[question.part]
    others = _others(own, number, question.part, share)
    at = round(depth * len(others))
    placed = [*others[:at], gold, *others[at:]]
    return Sample(
        id=f"{name}-{number}",
        documents=tuple(Document(part.text, f"{part.source} ({i + 1})") for i, part in enumerate(placed)),
        instruction=INSTRUCTION,
        question=f"Question: {question.question} Answer in a few words.",
        answer_prefix="Answer:",
        gold=(question.answer,),
        scorer="own_said",
        max_new_tokens=48,
        metadata={
            "task": name,
            "length": 0,
            "seed": number,
            "tokens": sum(part.tokens + JOINT_TOKENS for part in placed) + QUESTION_TOKENS,
            "depth": at / len(others) if others else 0.0,
            "share": share,
            "distractors": len(others),
        },
    )


def _others(own: OwnFile, number: int, gold: int, share: float) -> list[Part]:
    """Parts in a random order while they fit beside the answering one, then the given share of them."""
    room = own.tokens - own.parts[gold].tokens - 2 * JOINT_TOKENS - QUESTION_TOKENS
    fitting = []
    for i in random.Random(f"own:{number}").sample(range(len(own.parts)), len(own.parts)):
        part = own.parts[i]
        if i != gold and part.tokens + JOINT_TOKENS <= room:
            fitting.append(part)
            room -= part.tokens + JOINT_TOKENS
    return fitting[: round(share * len(fitting))]


@metric
def own_said(reply: str, turn: Turn) -> float:
    """1 if the reply holds the answer in SQuAD's normal form."""
    return float(any(normalised(gold) in normalised(reply) for gold in turn.gold))


SUITE = Suite(
    name="own",
    summary="questions from your own documents, answered at chosen depths among chosen amounts of others",
    paper="arXiv:2407.03651",
    year=2024,
    claim="Models answer worse when the document that holds the answer stands in the middle of the window.",
    departures=(
        "answers are copied from the text and judged by being in the reply: a second model that judges would cost and vary",
        "questions are checked by rules and by the model that wrote them; a person may strike what is left",
        "long documents are cut into parts, so that a window holds several",
    ),
    tasks=tuple(
        Loaded(name=name, summary=summary, scorer="own_said", max_new_tokens=48, load=partial(load, name), where=WHERE)
        for name, summary in (
            ("own.position", "the answering part at five depths of a full window"),
            ("own.size", "the answering part among none to all of the others that fit"),
        )
    ),
)
