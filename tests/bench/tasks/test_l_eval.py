"""L-Eval: how exams are read, how long open answers are asked to be, and the real files."""

from __future__ import annotations

import json

import pytest

from baywindow.bench import find
from baywindow.bench.base import Turn
from baywindow.bench.tasks.l_eval import _scores
from baywindow.errors import SourceError


def turn(*gold):
    return Turn(question="q", gold=gold, scorer="any")


@pytest.mark.parametrize(
    ("reply", "score"),
    [("AC", 1.0), ("A, C", 1.0), ("C and A", 1.0), ("A", 0.25), ("ABC", 0.0), ("B", 0.0), ("(A) foxes are red\n(C) foxes run", 1.0),
     ("A fox is red", 0.0), ("none", 0.0), ("The answers are A. and C.", 1.0)],
)  # fmt: skip
def test_several_letters(reply, score):
    assert _scores.l_eval_letters(reply, turn("AC")) == score


def test_one_letter_against_a_gold_in_words():
    gold = turn("(B) Maren")
    assert _scores.l_eval_letter("B", gold) == _scores.l_eval_letter("The answer is (B).", gold) == 1.0
    assert _scores.l_eval_letter("A", gold) == 0.0
    assert _scores.l_eval_letter("I do not know", gold) == 0.0  # the published code guesses A, which is right one time in four


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("3 * 4 = 12. The answer is 12.", 1.0),
        ("The answer is $12.00", 1.0),
        ("So 12 eggs\n\nQuestion: 5", 1.0),
        ("The answer is 13", 0.0),
    ],
)
def test_a_number_after_its_cue_or_last_in_the_first_paragraph(reply, score):
    assert _scores.l_eval_number(reply, turn("12")) == score


def test_code_output_is_looked_for_at_the_end():
    gold = turn("[2.0, 2.0]")
    assert _scores.l_eval_code("It doubles. The final value will be [2, 2]", gold) == 1.0
    assert _scores.l_eval_code("[2, 2] would be right for twice, but here it returns a list of quite other things in the end", gold) == 0.0


def test_topics_and_truths():
    assert _scores.l_eval_topic("The topic was  the History of Clocks.", turn("The history of clocks")) == 1.0
    assert _scores.l_eval_truth("False, not true", turn("False")) == 1.0
    assert _scores.l_eval_truth("untrue", turn("True")) == 0.0
    assert _scores.story_and_fact("True [fact: False]") == ("True", "False")


def test_a_story_question_has_a_second_turn_on_the_world(sets):
    one, two = sets.samples("l_eval.sci_fi")
    assert [t.gold for t in one.asked] == [("True",), ("False",)]
    assert [t.gold for t in two.asked] == [("False",), ("True",)]
    assert "real world" in one.asked[1].question
    assert [find.score(t.gold[0], t) for t in one.asked] == [1.0, 1.0]


def test_open_answers_are_told_their_length_and_scored_as_the_record_says(sets):
    [answer] = sets.samples("l_eval.financial_qa")  # the second record is compared with another model's reply: left out
    assert answer.question == "Instruction: How much was saved? Write about 5 words."
    assert (answer.scorer, answer.metadata["question"]) == ("token_f1", "How much was saved?")
    [summary] = sets.samples("l_eval.gov_report_summ")
    assert summary.scorer == "rouge_l"
    assert "rouge_mean" in summary.metadata["also"]


def test_questions_and_answers_must_match(sets, tmp_path):
    (tmp_path / "tpo.jsonl").write_text('{"input": "x", "instructions": ["a", "b"], "outputs": ["A"], "evaluation": "exam"}')
    with pytest.raises(SourceError, match="2 instructions, 1 outputs"):
        list(sets.task("l_eval.tpo").load(tmp_path))


@pytest.mark.parametrize(("name", "documents", "left_out"), [("coursera", 15, 0), ("quality", 15, 0), ("natural_question", 20, 1)])
def test_the_real_files(sets, name, documents, left_out):
    folder = sets.shared("leval")
    rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").split("\n") if line]
    kept = [row for row in rows if row["evaluation"] in ("exam", "f1", "rouge")]
    made = list(sets.task(f"l_eval.{name}").load(folder))
    assert len({s.metadata["document"] for s in made}) == len(kept) == documents == len(rows) - left_out
    assert [s.gold[0] for s in made] == [answer for row in kept for answer in row["outputs"]]
    assert {s.context for s in made} == {row["input"] for row in kept}
    assert all(sets.perfect(t) == pytest.approx(1.0) for s in made for t in s.asked)
    assert sum(find.score("zzz", t) for s in made for t in s.asked) == 0
