"""Needle Threading: gold by looking up and following in the object itself."""

from __future__ import annotations

import json
import re

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.errors import ConfigError

A, B, C = (f"{n}0000000-0000-0000-0000-000000000000" for n in "abc")


def sample(task, tokens=4096, seed=0, depth=None, **options):
    counter = TokenCounter(lambda text: len(re.findall(r"\w{1,5}|[^\w\s]|\n", text)), "pieces")
    order = Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), depth=depth, options=options)
    return find.tasks(f"needle_threading.{task}")[0].sample(order)


def pairs(made):
    return json.loads(made.context, object_pairs_hook=lambda found: found)


def asked(made):
    return re.findall(r'"([0-9a-f-]{36})"', made.question)


@pytest.mark.parametrize("depth", [0.0, 0.4, 1.0])
def test_one_key_at_its_depth(depth):
    made = sample("single", depth=depth)
    keys = [key for key, _ in pairs(made)]
    assert dict(pairs(made))[asked(made)[0]] == made.gold[0]
    assert abs(keys.index(asked(made)[0]) / (len(keys) - 1) - depth) < 0.05


@pytest.mark.parametrize("placement", ["random", "clustered"])
def test_several_keys_in_the_order_of_the_question(placement):
    made = sample("multi", needles=6, placement=placement)
    data = dict(pairs(made))
    assert [data[key] for key in asked(made)] == list(made.gold)
    places = [[key for key, _ in pairs(made)].index(key) / len(data) for key in asked(made)]
    assert (max(places) - min(places) < 0.25) == (placement == "clustered")


def test_all_marked_keys_in_the_order_of_the_object():
    made = sample("conditional", needles=7)
    assert [value for key, value in pairs(made) if "*" in key] == list(made.gold)
    assert len(made.gold) == 7


@pytest.mark.parametrize("direction", ["forward", "backward", "random"])
@pytest.mark.parametrize(("task", "count"), [("threads", 1), ("multi_threads", 3)])
def test_threads_lead_to_gold_in_their_direction(task, count, direction):
    made = sample(task, length=5, direction=direction)
    data, order = dict(pairs(made)), [key for key, _ in pairs(made)]
    assert len(asked(made)) == count
    for start, gold in zip(asked(made), made.gold, strict=True):
        key, path = start, []
        while key in data:
            path.append(order.index(key))
            key = data[key]
        assert (key, len(path)) == (gold, 5)
        if direction != "random":
            assert path == sorted(path, reverse=direction == "backward")


@pytest.mark.parametrize("branches", [2, 4])
def test_the_longest_branch_is_unique_and_gold(branches):
    made = sample("branched", length=4, branches=branches)
    found = pairs(made)

    def ends(key, steps):
        values = [value for k, value in found if k == key]
        return [end for value in values for end in ends(value, steps + 1)] if values else [(steps, key)]

    reached = sorted(ends(asked(made)[0], 0), reverse=True)
    assert len(reached) == 1 + 3 * (branches - 1)
    assert reached[0] == (4, made.gold[0])
    assert reached[1][0] == 3


@pytest.mark.parametrize(
    ("reply", "in_order", "as_set"),
    [
        (f'["{A}", "{B}"]', 1.0, 1.0),
        (f"They are {A.upper()} and {B}.", 1.0, 1.0),
        (f"{B}, {A}", 0.0, 1.0),
        (A, 0.5, 0.5),
        (f"{A} {B} {C}", 2 / 3, 2 / 3),
        (f"{A} {C}", 0.5, 1 / 3),
        ("none", 0.0, 0.0),
    ],
)
def test_lists_and_sets_by_hand(reply, in_order, as_set):
    turn = Turn(question="", gold=(A, B), scorer="needle_threading_list")
    assert find.scorer("needle_threading_list")(reply, turn) == pytest.approx(in_order)
    assert find.scorer("needle_threading_set")(reply, turn) == pytest.approx(as_set)


@pytest.mark.parametrize(
    ("task", "options"),
    [("threads", {"length": 1}), ("threads", {"direction": "up"}), ("multi", {"needles": 0}), ("branched", {"branches": 1})],
)
def test_options_out_of_range_are_refused(task, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        sample(task, **options)


def test_more_needles_than_fit_are_refused():
    with pytest.raises(ConfigError, match="does not fit"):
        sample("multi", tokens=2048, needles=200)
