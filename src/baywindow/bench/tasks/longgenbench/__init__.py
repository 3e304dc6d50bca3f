"""LongGenBench: K questions in one prompt, K answers in one reply. What a long reply loses against K short ones."""

from __future__ import annotations

import random

from baywindow.bench.base import Generated, Loaded, Order, Sample, Suite
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._whole import Whole
from baywindow.bench.tasks.longgenbench._batch import INSTRUCTION, NEW_TOKENS, answers_of, asking, new_tokens, worked
from baywindow.bench.tasks.longgenbench._exercises import exercise
from baywindow.bench.tasks.longgenbench._files import WHERE_GSM8K, WHERE_MMLU, gsm8k, mmlu
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

NAME = "longgenbench.arithmetic"
OPTIONS = {"questions": 35}
_LEAST_EXAMPLES = 2


def arithmetic(order: Order) -> Sample:
    """``questions`` exercises to answer in one reply; with 1 it is the single-question prompt to compare with. Examples fill the length."""
    count = order.options.get("questions", OPTIONS["questions"])
    if not isinstance(count, int) or count < 1:
        raise ConfigError.bad_value("questions", count, "a whole number from 1 on")
    rng, drawn = rng_of(NAME, order), rng_of(NAME, order, "examples")
    asked = [exercise(rng) for _ in range(count)]
    made = Whole(lambda: _example(drawn), order.counter, "\n\nAnswer_100:\n")
    overhead = sum(order.counter("\n" + part) for part in (INSTRUCTION, asking(100, [e.question for e in asked])))

    def build(room: int) -> Sample:
        examples = made.upto(room - overhead)
        if len(examples) < _LEAST_EXAMPLES:
            examples = made.first(_LEAST_EXAMPLES)
        text = "\n\n".join(_numbered(i, example) for i, example in enumerate(examples, start=1))
        first = len(examples) + 1
        return Sample(
            id="",
            documents=(Document(text, "examples.txt"),),
            instruction=INSTRUCTION,
            question=asking(first, [e.question for e in asked]),
            gold=(answers_of(first, [str(e.answer) for e in asked]),),
            scorer="longgenbench_answers",
            max_new_tokens=new_tokens(count),
            metadata={"questions": count, "examples": len(examples), "kind": "number"},
        )

    return sized(NAME, order, build)


def _example(rng: random.Random) -> str:
    made = exercise(rng)
    return f"{made.question}\n{made.solution}"


def _numbered(number: int, example: str) -> str:
    question, solution = example.split("\n")
    return worked(number, question, solution)


SUITE = Suite(
    name="longgenbench",
    summary="K questions answered in one long reply",
    paper="2410.04199",
    year=2024,
    claim="Answering 20 questions and more in one reply lowers accuracy against one question a prompt, and later ones fail more often.",
    departures=(
        "`arithmetic` is generated, since GSM8K may not be copied here, and worked examples (eight in the paper) fill its length; "
        "`gsm8k` and `mmlu` read the published sets. CommonsenseQA is not built: it brings no form of its own.",
        "gsm8k: the file's first eight records are the worked examples instead of the eight written by hand in the published prompt.",
        "Answers are aligned by their number; in the published code one missing block moves all later ones, and questions after the cut "
        "are not counted. Here every question counts.",
        "One batch is one sample; the paper's repetition over several batches is asking for several seeds.",
    ),
    tasks=(
        Generated(
            name=NAME,
            summary="generated exercises of two to six steps",
            scorer="longgenbench_answers",
            max_new_tokens=NEW_TOKENS,
            build=arithmetic,
            min_tokens=4096,
            options=OPTIONS,
        ),
        Loaded(
            name="longgenbench.gsm8k",
            summary="GSM8K in batches of 35",
            scorer="longgenbench_answers",
            max_new_tokens=NEW_TOKENS,
            load=gsm8k,
            where=WHERE_GSM8K,
        ),
        Loaded(
            name="longgenbench.mmlu",
            summary="MMLU in batches of 20, by subject",
            scorer="longgenbench_answers",
            max_new_tokens=NEW_TOKENS,
            load=mmlu,
            where=WHERE_MMLU,
        ),
    ),
)
