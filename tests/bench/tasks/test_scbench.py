"""SCBench: every turn's gold is found again in the one context by other means."""

from __future__ import annotations

import json
import re

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks.scbench import SUITE
from baywindow.bench.tasks.scbench._shared import spread
from baywindow.errors import ConfigError

TASKS = {task.name.split(".")[1]: task for task in SUITE.tasks}


def made(task, tokens=4096, seed=0, **options):
    counter = TokenCounter(lambda text: (len(text) + 3) // 4, "quarters")
    return TASKS[task].sample(Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), options=options))


def test_kv_is_a_json_object_with_the_answers():
    sample = made("kv")
    pairs = json.loads(sample.context)
    for turn in sample.asked:
        assert (pairs[re.search(r'"(.+)"', turn.question)[1]],) == turn.gold
    assert len({turn.gold for turn in sample.asked}) == 5


def test_both_ends_are_needed_for_a_string():
    sample = made("prefix_suffix")
    strings = sample.context.splitlines()
    alone = 0
    for turn in sample.asked:
        start, end = re.search(r'"(\w{4})" and ends with "(\w{4})"', turn.question).groups()
        assert [s for s in strings if s.startswith(start) and s.endswith(end)] == list(turn.gold)
        alone += sum(s.startswith(start) for s in strings) == 1 or sum(s.endswith(end) for s in strings) == 1
    assert alone <= 1  # only the first and last string drawn may have an end of their own


def test_variables_are_those_that_a_run_of_the_text_gives_the_value():
    sample = made("vt")
    holds = {}
    for name, other, value in re.findall(r"VAR (\w+) = (?:VAR (\w+)|(\d+))\.", sample.context):
        holds[name] = value or holds[other]
    for turn in sample.asked:
        value = re.search(r"value (\d+)", turn.question)[1]
        assert {name for name, v in holds.items() if v == value} == set(turn.gold)
        assert len(turn.gold) == 3


def test_shots_and_questions_are_solved_by_swapping():
    sample = made("many_shot")
    solved = re.findall(r"(Exercise: .+)\nAnswer:\n(\(\w\))", sample.context)
    assert len(solved) > 10
    for text, answer in [*solved, *((turn.question, turn.gold[0]) for turn in sample.asked)]:
        holds = dict(re.findall(r"(\w+) has the (\w+)", text.split(".")[0]))
        for one, other in re.findall(r"(\w+) and (\w+) swap", text):
            holds[one], holds[other] = holds[other], holds[one]
        person = re.search(r"does (\w+) have", text)[1]
        assert dict(re.findall(r"(\(\w\)) the (\w+)", text))[answer] == holds[person]


def test_numbers_are_compared():
    sample = made("mf", turns=7)
    numbers = sorted(int(n) for n in sample.context.split(", "))
    distinct = sorted(set(numbers))
    wanted = {
        "largest": distinct[-1],
        "second largest": distinct[-2],
        "third largest": distinct[-3],
        "smallest": distinct[0],
        "second smallest": distinct[1],
        "third smallest": distinct[2],
        "median": numbers[len(numbers) // 2],
    }
    assert len(numbers) % 2 == 1
    asked = {re.search(r"the (.+?)( number)? in the list", turn.question)[1]: int(turn.gold[0]) for turn in sample.asked}
    assert asked == wanted


def test_two_kinds_of_retrieval_take_turns():
    sample = made("needles_and_kv", turns=4)
    assert [turn.metadata["kind"] for turn in sample.asked] == ["number", "value", "number", "value"]
    for turn in sample.asked:
        key = re.search(r'number of (\w+)\?|key "(.+)"', turn.question)
        line = f"number of {key[1]} is {turn.gold[0]}." if key[1] else f'{{"{key[2]}": "{turn.gold[0]}"}}'
        assert line in sample.context


def test_turns_lie_far_apart():
    assert spread(5, 100, 0.5) == [30, 70, 10, 50, 90]
    assert sorted(spread(4, 4, 0.9)) == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", ["multi_turn", "multi_request"])
def test_the_mode_and_the_number_of_turns_are_told(mode):
    sample = made("kv", mode=mode, turns=3)
    assert sample.metadata["mode"] == mode
    assert sample.metadata["turns"] == len(sample.asked) == 3


def test_a_later_turn_stands_behind_the_questions_and_gold_answers_before_it():
    alone, talk = made("kv", turns=3), made("kv", mode="multi_turn", turns=3)
    assert alone.context == talk.context
    first, second, third = (turn.question for turn in alone.asked)
    one, two, _ = (turn.gold[0] for turn in alone.asked)
    assert talk.asked[0].question == first
    assert talk.asked[1].question == f"{first}\n{one}\n\n{second}"
    assert talk.asked[2].question == f"{first}\n{one}\n\n{second}\n{two}\n\n{third}"
    assert [turn.gold for turn in talk.asked] == [turn.gold for turn in alone.asked]


@pytest.mark.parametrize("option", [{"mode": "scdq"}, {"turns": 0}])
def test_bad_options_are_refused(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        made("vt", **option)


@pytest.mark.parametrize(
    ("scorer", "reply", "gold", "score"),
    [
        ("scbench_has", "It is aB-c.", "aB-c", 1),
        ("scbench_has", "It is ab-c.", "aB-c", 0),
        ("scbench_number", "12", "12", 1),
        ("scbench_number", "The number is 12,345, I think", "12345", 1),
        ("scbench_number", "1, 12", "12", 0),
        ("scbench_number", "none", "12", 0),
    ],
)
def test_scores(scorer, reply, gold, score):
    assert find.scorer(scorer)(reply, Turn(question="", gold=(gold,), scorer="")) == score
