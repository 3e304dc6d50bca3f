"""Hyper-multi-step: gold by searching the object or the résumés, and how answers are read."""

from __future__ import annotations

import json
import re

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.errors import ConfigError


def sample(task, tokens=2048, seed=0, depth=None, **options):
    counter = TokenCounter(lambda text: len(re.findall(r"\w{1,5}|[^\w\s]|\n", text)), "pieces")
    order = Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), depth=depth, options=options)
    return find.tasks(f"hyper_multi_step.{task}")[0].sample(order)


def data(made):
    found = json.loads(made.context, object_pairs_hook=list)
    assert all(re.fullmatch(r"[1-9]\d{9}", key) for key, _ in found)
    assert len({key for key, _ in found}) == len(found) == made.metadata["pairs"] > 50
    return dict(found)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_looking_up_by_key_and_by_value(seed):
    made = sample("simple_k2v", seed=seed)
    assert (str(data(made)[re.search(r"\d{10}", made.question)[0]]),) == made.gold
    made = sample("simple_v2k", seed=seed)
    value = int(re.search(r"the value (\d+)", made.question)[1])
    assert [key for key, v in data(made).items() if v == value] == list(made.gold)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_logic_has_one_key_strictly_inside(seed):
    made = sample("logic", seed=seed, depth=0.5)
    low, high = map(int, re.findall(r"than (\d+)", made.question))
    found = data(made)
    assert [key for key, v in found.items() if low < v < high] == list(made.gold)
    assert abs(list(found).index(made.gold[0]) / len(found) - 0.5) < 0.05


@pytest.mark.parametrize("matches", [1, 3, 10])
def test_multi_match_is_all_keys_in_order(matches):
    made = sample("multi_match", matches=matches)
    value = int(re.search(r"the value (\d+)", made.question)[1])
    assert [key for key, v in data(made).items() if v == value] == list(made.gold)
    assert len(made.gold) == matches


def test_the_last_match_is_the_one_not_given():
    made = sample("multi_match_last", matches=5)
    value = int(re.search(r"the value (\d+)", made.question)[1])
    matching = [key for key, v in data(made).items() if v == value]
    assert re.findall(r"\d{10}", made.question) == matching[:-1]
    assert made.gold == (matching[-1],)
    assert len(matching) == 5


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_multi_step_by_doing_it(steps):
    made = sample("multi_step", steps=steps)
    found = data(made)
    keys = re.findall(r'"(\d{10})"', made.question)
    rest = re.search(r'append "(\d+)"', made.question)[1]
    key = "".join(str(found[k]) for k in keys) + rest
    assert len(keys) == steps
    assert made.gold == (key, str(found[key]))


RESUME = re.compile(r"(\w+ \w+), \d+ years old, has a degree from the University of (\w+) with an average mark of (\d\.\d\d)\.")


def test_resumes_by_reading_them():
    made = sample("logic_resume", 4096)
    low, high = map(float, re.search(r"between (\d\.\d\d) and (\d\.\d\d)", made.question).groups())
    found = RESUME.findall(made.context)
    assert len(found) == made.metadata["students"] == len(made.context.split("\n")) > 30
    assert [name for name, _, mark in found if low <= float(mark) <= high] == list(made.gold)

    made = sample("multi_match_resume", 4096, matches=4)
    university = re.search(r"University of (\w+)\?", made.question)[1]
    assert [name for name, place, _ in RESUME.findall(made.context) if place == university] == list(made.gold)
    assert len(made.gold) == 4


def test_style_is_part_of_the_question():
    assert "step by step" in sample("logic", style="step_by_step").question
    assert "one by one" in sample("multi_match_resume", style="one_by_one").question
    with pytest.raises(ConfigError, match="style"):
        sample("logic", style="loud")
    with pytest.raises(ConfigError, match="matches"):
        sample("multi_match_last", matches=1)


K, L = "1234567890", "9876543210"


@pytest.mark.parametrize(
    ("name", "gold", "reply", "right"),
    [
        ("key", (K,), f'key: "{K}"', 1.0),
        ("key", (K,), f"key: {L}\nNo: key: {{{K}}}", 1.0),
        ("key", (K,), f"It is {K}.", 1.0),
        ("key", (K,), f"{K}, or rather {L}", 0.0),
        ("key", (K,), f'key: "{K}": 5', 1.0),
        ("key", (K,), "no key at all", 0.0),
        ("value", ("7",), "value: 7", 1.0),
        ("value", ("7",), f"The key {K} has 7", 1.0),
        ("value", ("7",), "value: 77", 0.0),
        ("key_value", (K, "7"), f"key: {K} value: 7", 1.0),
        ("key_value", (K, "7"), f"key: {K} value: 8", 0.5),
        ("key_value", (K, "7"), f"{L} and then 7", 0.5),
        ("keys", (K, L), f"keys: {L}, {K}", 1.0),
        ("keys", (K, L), f"- {K}\n- {L}", 1.0),
        ("keys", (K, L), f"keys: {K}", 0.0),
        ("keys", (K, L), f"keys: {K}, {L}, 1111111111", 0.0),
        ("keys", (K, L), f"I saw 1111111111 first.\nkeys: {K}, {L}", 1.0),
        ("name", ("Ada Ulham",), 'name: "ada ulham".', 1.0),
        ("name", ("Ada Ulham",), "Ada Ulham: mark 2.11", 1.0),
        ("name", ("Ada Ulham",), "name: Max Ulham", 0.0),
        ("names", ("Ada Ulham", "Max Orby"), "names: Max Orby, Ada Ulham", 1.0),
        ("names", ("Ada Ulham", "Max Orby"), "Ada Ulham, Max Orby", 1.0),
        ("names", ("Ada Ulham", "Max Orby"), "names: Ada Ulham", 0.0),
    ],
)
def test_answers_read_from_replies_by_hand(name, gold, reply, right):
    scorer = f"hyper_multi_step_{name}"
    assert find.scorer(scorer)(reply, Turn(question="", gold=gold, scorer=scorer)) == right
