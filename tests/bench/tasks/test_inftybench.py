"""InfiniteBench: its twelve ways of reading a reply."""

from __future__ import annotations

import pytest

from baywindow.bench import find
from baywindow.bench.tasks.inftybench import SUITE
from baywindow.errors import SourceError

TOKENS = {
    "passkey": 6, "number_string": 12, "kv_retrieval": 50, "longbook_sum_eng": 1200, "longbook_choice_eng": 40, "longbook_qa_eng": 40,
    "longbook_qa_chn": 40, "longdialogue_qa_eng": 40, "math_find": 3, "math_calc": 30000, "code_run": 5, "code_debug": 5,
}  # fmt: skip


def test_all_tasks_are_there_with_their_output_lengths():
    assert {t.name.partition(".")[2]: t.max_new_tokens for t in SUITE.tasks} == TOKENS


@pytest.mark.parametrize(
    ("name", "reply", "score"),
    [
        ("passkey", "The pass key is 71432.", 1.0),
        ("passkey", "7 1432", 0.0),  # the first run of digits is another number
        ("number_string", "2200012222", 1.0),
        ("kv_retrieval", 'The value is "c3-d4".', 1.0),
        ("kv_retrieval", "c3-d45", 0.0),
        ("longbook_choice_eng", "B", 1.0),
        ("longbook_choice_eng", "The answer is Maren", 1.0),
        ("longbook_choice_eng", "C. Ann", 0.0),
        ("longbook_qa_eng", "It was Maren", 0.5),  # P = 1/3, R = 1
        ("longdialogue_qa_eng", "Bo Lind.", 1.0),
        ("longdialogue_qa_eng", "Bo", 0.0),  # the first of the accepted names is the whole one
        ("math_find", "9 is", 1.0),
        ("math_find", "9.5", 0.0),
        ("code_run", "It is:\n-3.", 1.0),
        ("code_run", "-3 or so", 0.0),
        ("code_debug", "The correct option is: B", 1.0),
        ("code_debug", "answer: sub", 1.0),
        ("code_debug", "Of A. add and B. sub, the one with the error is:\n\n`B`. sub", 1.0),
        ("code_debug", "Based on the code, A. add is fine and so is B. sub", 0.0),
        ("longbook_choice_eng", "Based on the book", 0.0),
        ("code_debug", "A", 0.0),
    ],
)
def test_replies_of_a_worked_example(sets, name, reply, score):
    assert find.score(reply, sets.samples(f"inftybench.{name}")[0].asked[0]) == pytest.approx(score)


def test_steps_are_counted_up_to_the_first_wrong_one_with_or_without_the_first_number(sets):
    [sample] = sets.samples("inftybench.math_calc")
    asked = sample.asked[0]
    assert sample.metadata["first"] == "76"
    assert find.score("76, 79, 59, 73]", asked) == find.score("79, 59, 73]", asked) == 1.0
    assert find.score("[76, 79, 58, 73]", asked) == pytest.approx(1 / 3)
    assert find.score("[59, 73]", asked) == 0.0


def test_a_median_may_be_half_a_number(sets):
    median = sets.samples("inftybench.math_find")[1]
    assert find.score("3.5", median.asked[0]) == 1.0
    assert median.instruction == "Find the median number in this list."


def test_code_is_asked_by_its_call_and_a_record_without_one_says_so(sets, tmp_path):
    [sample] = sets.samples("inftybench.code_run")
    assert sample.question == "Compute func_1(2)."
    (tmp_path / "code_run.jsonl").write_text('{"context": "x", "input": "nothing", "answer": 1}')
    with pytest.raises(SourceError, match="no call such as"):
        list(sets.task("inftybench.code_run").load(tmp_path))


def test_options_are_listed_by_letter(sets):
    [sample] = sets.samples("inftybench.code_debug")
    assert "A. add\nB. sub\nC. mul\nD. div" in sample.question
    assert sample.gold == ("B", "sub")
