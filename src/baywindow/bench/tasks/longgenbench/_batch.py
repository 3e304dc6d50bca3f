"""Many questions in one prompt, all to be answered in one reply: its form, and how the reply is taken apart again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from baywindow.bench.base import Turn, metric

INSTRUCTION = (
    "Below are worked examples. After them come further questions, numbered on from the examples. Answer every one of them in order, "
    "step by step, in the form of the examples: begin each answer with `Answer_` and its number, end it with `The answer is`. "
    "Do not repeat the questions, and leave none out."
)
NEW_TOKENS = 4096
_TOKENS_AN_ANSWER = 128


def worked(number: int, question: str, solution: str) -> str:
    return f"Question_{number}:\n{question}\nAnswer_{number}:\n{solution}"


def asking(first: int, questions: Sequence[str]) -> str:
    """All questions, numbered from ``first`` on."""
    return "\n".join(["Questions to answer:", *(f"Question_{i}:\n{question}" for i, question in enumerate(questions, start=first))])


def answers_of(first: int, answers: Sequence[str]) -> str:
    """The gold: a reply with nothing but the results."""
    return "\n\n".join(f"Answer_{i}:\nThe answer is {answer}." for i, answer in enumerate(answers, start=first))


def new_tokens(questions: int) -> int:
    return min(NEW_TOKENS, _TOKENS_AN_ANSWER * (questions + 1))


def results(reply: str, letters: bool) -> dict[int, str]:
    """The result of each numbered answer: its last number, or its last choice letter. The first answer of a number counts."""
    blocks = re.split(r"Answer_(\d+)", reply)[1:]
    found: dict[int, str] = {}
    for number, text in zip(blocks[::2], blocks[1::2], strict=True):
        said = re.findall(r"\b[A-D]\b" if letters else r"-?\d*\.?\d+", text.split("Question_")[0].replace(",", ""))
        if said:
            found.setdefault(int(number), said[-1])
    return found


@metric
def longgenbench_answers(reply: str, turn: Turn) -> float:
    """Share of all questions whose answer, found by its number, is right. One left out is wrong and moves no other."""
    letters = turn.metadata.get("kind") == "letter"
    gold, said = results(turn.gold[0], letters), results(reply, letters)
    right = sum(i in said and (said[i] == answer if letters else float(said[i]) == float(answer)) for i, answer in gold.items())
    return right / len(gold)
