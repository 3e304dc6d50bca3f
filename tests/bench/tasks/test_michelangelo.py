"""Michelangelo, against Python itself (the list), a reader of chats (MRCR) and a reader of the story (IDK)."""

from __future__ import annotations

import contextlib
import io
import random
import re

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks.michelangelo import SUITE
from baywindow.bench.tasks.michelangelo._idk import FACTS, UNKNOWN
from baywindow.bench.tasks.michelangelo._latent_list import VIEWS, change, filler
from baywindow.errors import ConfigError, SourceError

TASKS = {task.name.split(".")[1]: task for task in SUITE.tasks}


def made(task, tokens=1024, seed=0, depth=None, **options):
    counter = TokenCounter(lambda text: (len(text) + 3) // 4, "quarters")
    return TASKS[task].sample(Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), depth=depth, options=options))


def turn(gold):
    return Turn(question="?", gold=(gold,), scorer="")


def run(lines, view="print(a)"):
    out = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        space = {}
        exec(lines, space)
    with contextlib.redirect_stdout(out):
        exec(view, space)
    return out.getvalue().strip()


@pytest.mark.parametrize("operations", [1, 5, 20])
@pytest.mark.parametrize("seed", range(8))
def test_python_agrees_with_the_latent_list(operations, seed):
    sample = made("latent_list", seed=seed, operations=operations)
    assert run(sample.documents[0].text, sample.metadata["view"]) == sample.gold[0]
    assert sample.metadata["view"] in sample.question


def test_all_views_are_asked():
    assert {made("latent_list", 512, seed=s).metadata["view"] for s in range(40)} == set(VIEWS)


def test_fillers_leave_the_list_and_operations_change_it():
    rng = random.Random(1)
    state = [3, -1, 4, 1, 5]
    for _ in range(200):
        assert run(f"a = {state}\n{filler(rng)}") == str(state)
        line, after = change(state, rng)
        assert run(f"a = {state}\n{line}") == str(after) != str(state)
        state = after


@pytest.mark.parametrize(
    ("reply", "gold", "score"),
    [
        ("[1, -2, 3]", "[1, -2, 3]", 1),
        ("First [9], then it prints [1,-2,3].", "[1, -2, 3]", 1),
        ("[1, 2, 3]", "[1, -2, 3]", 0),
        ("[1, -2]", "[1, -2, 3]", 0),
        ("len(a) is 12", "12", 1),
        ("the sum of 3 numbers is -7", "-7", 1),
        ("12 or 13", "12", 0),
        ("none", "12", 0),
    ],
)
def test_a_view_is_right_or_wrong(reply, gold, score):
    assert find.scorer("michelangelo_view")(reply, turn(gold)) == score


def exchanges(chat):
    """Requests and replies of a chat, by its two speakers."""
    parts = re.split(r"(?:^|\n\n)User: ", chat)[1:]
    return [tuple(part.split("\n\nAssistant: ")) for part in parts]


@pytest.mark.parametrize(("needles", "seed"), [(1, 0), (2, 0), (2, 1), (4, 2), (8, 3)])
def test_the_reply_asked_for_is_the_ith_to_its_request(needles, seed):
    sample = made("mrcr", 4096, seed, needles=needles)
    mark, nth, form, topic, style = re.search(
        r"Write (\w{12}) and .* your (\w+) reply to my request for a (.+) about (.+) in a (\w+) style", sample.question
    ).groups()
    same = [
        reply for request, reply in exchanges(sample.documents[0].text) if request == f"Write a {form} about {topic} in a {style} style."
    ]
    i = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"].index(nth)
    assert len(same) == len(set(same)) == needles
    assert sample.gold == (f"{mark} {same[i]}",)
    assert sample.metadata["asked"] == i + 1


def test_other_replies_share_no_sentence_with_the_needles():
    sample = made("mrcr", 32768)  # longer than the haystack, which is gone through more than once
    needle = sample.gold[0][13:]
    assert sample.documents[0].text.count(needle[:80]) == 1


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("abcdefghijkL abcd", 1),
        ("Sure: abcdefghijkL abxd", 0.75),  # "ab" and "d" match: 2 * 3 of 8 characters
        ("abcdefghijkL zzzz abcdefghijkL\nabcd", 1),  # the last mark counts
        ("abcd", 0),
        ("abcdefghijk abcd", 0),
    ],
)
def test_mrcr_scores_the_likeness_after_the_mark(reply, score):
    assert find.scorer("michelangelo_mrcr")(reply, turn("abcdefghijkL abcd")) == score


@pytest.mark.parametrize("seed", range(20))
def test_the_story_answers_exactly_the_answerable_questions(seed):
    sample = made("idk", seed=seed)
    letter = sample.gold[0]
    choices = dict(re.findall(r"^(\([A-D]\)) (.+)$", sample.question, re.MULTILINE))
    told, asked, _ = FACTS[sample.metadata["fact"]]
    name = re.search(asked.rstrip("?").format(name=r"(\w+)"), sample.question)[1]
    sentences = [told.format(name=name, value=value) in sample.context for value in FACTS[sample.metadata["fact"]][2]]
    assert len(choices) == 4
    assert sum(sentences) == sample.metadata["answerable"]
    if sample.metadata["answerable"]:
        assert told.format(name=name, value=choices[letter]) in sample.context
    else:
        assert choices[letter] == UNKNOWN


def test_the_share_of_unanswerable_questions():
    known = [made("idk", 512, seed).metadata["answerable"] for seed in range(100)]
    assert 15 <= sum(known) <= 45  # 30 expected; four standard deviations are 18
    assert not any(made("idk", 512, s, unanswerable=1.0).metadata["answerable"] for s in range(5))
    assert all(made("idk", 512, s, unanswerable=0).metadata["answerable"] for s in range(5))


@pytest.mark.parametrize(
    ("reply", "score"),
    [("(B)", 1), ("B", 1), ("B.", 1), ("The answer is (B).", 1), ("(A)", 0), ("A dog? (B)", 1), ("I don't know", 0), ("Before", 0)],
)
def test_a_choice_is_read_from_brackets_or_the_beginning(reply, score):
    assert find.scorer("michelangelo_choice")(reply, turn("(B)")) == score


@pytest.mark.parametrize(
    ("task", "option"), [("latent_list", {"operations": 0}), ("mrcr", {"needles": 9}), ("idk", {"unanswerable": 2}), ("idk", {"depth": 1})]
)
def test_bad_options_are_refused(task, option):
    name = next(iter(option))
    with pytest.raises(ConfigError, match=name):
        TASKS[task].sample(Order(tokens=1024, seed=0, counter=TokenCounter(len, "c"), haystack=Haystack.installed(), options=option))


def test_a_tiny_haystack_is_refused():
    tiny = Haystack(("One sentence.",), "tiny")
    with pytest.raises(SourceError, match="sentences"):
        TASKS["mrcr"].sample(Order(tokens=1024, seed=0, counter=TokenCounter(len, "c"), haystack=tiny))
