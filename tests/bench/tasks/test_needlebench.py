"""NeedleBench: facts where they were ordered, kinship gold by following the sentences, and the official way of scoring."""

from __future__ import annotations

import re

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.errors import ConfigError

TWO = "grand"


def sample(task, tokens=1024, seed=0, depth=None, **options):
    counter = TokenCounter(lambda text: len(re.findall(r"\w{1,5}|[^\w\s]|\n", text)), "pieces")
    order = Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), depth=depth, options=options)
    return find.tasks(f"needlebench.{task}")[0].sample(order)


def links(text):
    """(elder, younger, generations) of every kinship sentence, read with one pattern a sentence form."""
    name, word = r"([A-Z]\w+(?: [A-Z]\.)? [A-Z]\w+)", r"((?:[mp]aternal )?(?:grand)?(?:father|mother)|dad|mom)"
    forms = [
        (rf"{name} is {name}'s {word}\.", "eyw"),
        (rf"{name}'s {word} is {name}\.", "ywe"),
        (rf"{name}, who is {name}'s {word}, taught", "eyw"),
        (rf"{name} often speaks of {name}, the {word} who raised", "yew"),
        (rf"To {name}, {name} is a {word} and a friend", "yew"),
        (rf"As {name}'s {word}, {name} was always there", "ywe"),
    ]
    found = []
    for pattern, order in forms:
        for groups in re.findall(pattern, text):
            part = dict(zip(order, groups, strict=True))
            found.append((part["e"], part["y"], 2 if TWO in part["w"] else 1))
    return found


@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_one_fact_at_its_depth(depth):
    made = sample("single", 4096, depth=depth)
    text = made.context
    assert text.count(made.gold[0]) == 1
    assert abs(text.index(made.gold[0]) / len(text) - depth) < 0.02
    subject = re.search(r"secret emblem of (the .+)\?", made.question)[1]
    assert f"The secret emblem of {subject} is the {made.gold[0]}." in text.split("\n")  # on a line of its own


def test_eleven_facts_one_every_tenth():
    made = sample("multi", 4096)
    at = [made.context.index(keyword) / len(made.context) for keyword in made.gold]
    assert len(at) == 11
    assert at == sorted(at)
    assert max(abs(a - i / 10) for i, a in enumerate(at)) < 0.04
    assert len(set(made.gold)) == 11
    assert find.score(f"It is the {made.gold[0]} and the {made.gold[7]}.", made.asked[0]) == pytest.approx(2 / 11)


@pytest.mark.parametrize("needles", [2, 3, 5])
def test_reasoning_gold_is_where_the_links_lead(needles):
    made = sample("multi_reasoning", 2048, seed=needles, depth=0.2, needles=needles)
    above = {younger: elder for elder, younger, _ in links(made.context)}
    assert len(above) == needles
    person = re.search(r"eldest relative that (.+?) can be traced back to\?", made.question)[1]
    steps = 0
    while person in above:
        person, steps = above[person], steps + 1
    assert (person, steps) == (made.gold[0], needles)
    assert made.metadata["depths"] == pytest.approx([0.2 + 0.1 * i for i in range(needles)])


@pytest.mark.parametrize("kind", ["eldest", "ancestor", "descendant", "distance"])
def test_ancestral_trace_gold_by_following_all_links(kind):
    made = sample("ancestral_trace", seed=3, kind=kind)
    found = links(made.context)
    assert len(found) == made.metadata["links"] > 20
    above = {younger: (elder, apart) for elder, younger, apart in found}
    young = next(y for _, y, _ in found if y not in {e for e, _, _ in found})
    person, generations = young, 0
    while person in above:
        generations += above[person][1]
        person = above[person][0]
    right = {"eldest": person, "ancestor": person, "descendant": young, "distance": str(generations)}
    assert made.gold == (right[kind],)
    if kind in ("ancestor", "descendant"):
        assert f"of generation {generations} of" in made.question


def test_few_links_leave_room_for_natural_text():
    made = sample("ancestral_trace", links=3, kind="eldest")
    assert len(links(made.context)) == made.metadata["links"] == 3
    assert 0.98 * 1024 <= made.metadata["tokens"] <= 1024


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("So it is \\boxed{Ann Ray}.", 1.0),
        ("First \\boxed{Max Orr}, but then \\boxed{Ann Ray}", 1.0),
        ("\\boxed{{Ann Ray}}", 1.0),
        ("\\boxed{\\text{Ann Ray}}", 1.0),
        ('\\boxed{"Ann  Ray"}', 1.0),
        ("Ann Ray", 1.0),
        ("It is Ann Ray", 0.0),  # no box
        ("\\boxed{Ann Rays}", 0.0),
        ("\\boxed{Ann Ray} or \\boxed{Max Orr}", 0.0),
    ],
)
def test_boxed_answers_by_hand(reply, right):
    assert find.scorer("needlebench_boxed")(reply, Turn(question="", gold=("Ann Ray",), scorer="needlebench_boxed")) == right


def test_keywords_keep_their_letter_case():
    turn = Turn(question="", gold=("velvet otter", "sable ibis"), scorer="needlebench_keywords")
    assert find.score("the velvet otter", turn) == 0.5
    assert find.score("the Velvet Otter", turn) == 0.0


@pytest.mark.parametrize(
    ("task", "options"), [("multi_reasoning", {"needles": 6}), ("ancestral_trace", {"kind": "uncle"}), ("ancestral_trace", {"links": 0})]
)
def test_options_out_of_range_are_refused(task, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        sample(task, **options)


def test_more_links_than_fit_are_refused():
    with pytest.raises(ConfigError, match="does not fit into 1024 tokens"):
        sample("ancestral_trace", links=500)
