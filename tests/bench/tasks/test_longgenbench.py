"""LongGenBench: exercises are solved again from their words, and replies are taken apart by the numbers of their answers."""

from __future__ import annotations

import operator
import random
import re
from fractions import Fraction
from pathlib import Path

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks.longgenbench import SUITE
from baywindow.bench.tasks.longgenbench._batch import answers_of
from baywindow.bench.tasks.longgenbench._exercises import exercise
from baywindow.errors import ConfigError, SourceError

TASKS = {task.name.split(".")[1]: task for task in SUITE.tasks}
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
FIXTURES = Path(__file__).parents[1] / "fixtures" / "longgenbench"


def made(tokens=4096, seed=0, **options):
    counter = TokenCounter(lambda text: (len(text) + 3) // 4, "quarters")
    return TASKS["arithmetic"].sample(Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), options=options))


def solve(question):
    """The answer, from the words alone."""
    first, *told, _ = question.split(". ")
    number = int(re.search(r"has (\d+)", first)[1])
    for sentence in told:
        amounts = [int(n) for n in re.findall(r"\d+", sentence)]
        if "boxes" in sentence:
            number += amounts[0] * amounts[1]
        elif "buys" in sentence:
            number += amounts[0]
        elif "gives away" in sentence:
            number -= amounts[0]
        else:
            number = number * 2 if "doubles" in sentence else number // 2
    return number


def test_exercises_have_the_answer_that_their_words_say():
    rng = random.Random(5)
    for _ in range(300):
        made = exercise(rng)
        assert solve(made.question) == made.answer > 0
        assert made.solution.endswith(f"The answer is {made.answer}.")
        for left, right in re.findall(r"(\d+ [-+*/] \d+) = (\d+)", made.steps):
            a, sign, b = left.split()
            assert Fraction(OPERATIONS[sign](Fraction(a), Fraction(b))) == int(right)  # no fraction either


def test_questions_are_numbered_on_from_the_examples():
    sample = made(questions=10)
    examples, questions = (re.findall(r"Question_(\d+):\n(.+)", text) for text in (sample.context, sample.question))
    assert [int(n) for n, _ in examples + questions] == list(range(1, len(examples) + 11))
    assert re.findall(r"Answer_(\d+):\nThe answer is (\d+)\.", sample.gold[0]) == [(n, str(solve(q))) for n, q in questions]
    assert sample.metadata["examples"] == len(examples)


def test_one_question_is_the_prompt_to_compare_with():
    sample = made(questions=1)
    assert sample.gold[0].count("Answer_") == 1
    assert sample.max_new_tokens < made(questions=35).max_new_tokens == 4096


def turn(first, answers, kind="number"):
    return Turn(question="", gold=(answers_of(first, answers),), scorer="", metadata={"kind": kind})


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Answer_9:\n2 + 3 = 5. The answer is 5.\n\nAnswer_10:\nThe answer is 1,200.\n\nAnswer_11:\nThe answer is 7.", 1),
        ("Answer_9: 5\nAnswer_11: 7", 2 / 3),  # one left out does not move the others
        ("Answer_9: 5.0", 1 / 3),
        ("Answer_1: 5\nAnswer_2: 1200\nAnswer_3: 7", 0),
        ("Answer_9: 4\nAnswer_9: 5", 0),  # the first one counts
        ("5\n1200\n7", 0),
    ],
)
def test_answers_are_aligned_by_their_number(reply, score):
    assert find.scorer("longgenbench_answers")(reply, turn(9, ["5", "1200", "7"])) == pytest.approx(score)


@pytest.mark.parametrize(
    ("reply", "score"), [("Answer_6: (B) seven\nAnswer_7: The answer is C.", 1), ("Answer_6: Because\nAnswer_7: D", 0)]
)
def test_letters_stand_alone(reply, score):
    assert find.scorer("longgenbench_answers")(reply, turn(6, ["B", "C"], "letter")) == score


def test_gsm8k_is_read_in_batches():
    (first, second) = TASKS["gsm8k"].load(FIXTURES)
    assert (first.metadata["questions"], second.metadata["questions"]) == (35, 8)  # 51 records, of which 8 are examples
    assert first.context.count("Question_") == 8
    assert first.context.startswith(
        "Question_1:\nA box holds 1 pens. How many do 2 boxes hold?\nAnswer_1:\n2 times 1 is 2.\nThe answer is 2"
    )
    assert first.question.splitlines()[1:3] == ["Question_9:", "A box holds 9 pens. How many do 10 boxes hold?"]
    assert find.score("Answer_9: 90", first.asked[0]) == pytest.approx(1 / 35)
    assert find.score(second.gold[0], second.asked[0]) == 1.0


def test_mmlu_is_read_by_subject():
    first, second = TASKS["mmlu"].load(FIXTURES)
    assert (first.metadata["questions"], second.metadata["questions"]) == (20, 3)
    assert first.metadata["subject"] == "counting"
    assert "Which is 10?\n(A) 10 (B) 11 (C) 12 (D) 13" in first.question
    assert first.gold[0].startswith("Answer_6:\nThe answer is A.\n\nAnswer_7:\nThe answer is B.")
    assert first.context.count("The answer is") == 5


def test_missing_and_broken_files_are_told(tmp_path):
    for task in ("gsm8k", "mmlu"):
        for path in (None, tmp_path):
            with pytest.raises(SourceError, match=r"GSM8K|MMLU|longgenbench"):
                list(TASKS[task].load(path))
    (tmp_path / "gsm8k.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(SourceError, match="not GSM8K"):
        list(TASKS["gsm8k"].load(tmp_path))
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "x_test.csv").write_text("a,b\n")
    with pytest.raises(SourceError, match="missing"):
        list(TASKS["mmlu"].load(tmp_path))


def test_bad_options_are_refused():
    with pytest.raises(ConfigError, match="questions"):
        made(questions=0)
