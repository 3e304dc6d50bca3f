"""Ada-LEval: pieces put back in order give the haystack again, and the right candidate goes on where the passage ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks.ada_leval import SUITE
from baywindow.bench.tasks.ada_leval._tsort import parts
from baywindow.errors import SourceError

TASKS = {task.name.split(".")[1]: task for task in SUITE.tasks}
FIXTURES = Path(__file__).parents[1] / "fixtures" / "ada_leval"


def made(task, tokens=2048, seed=0, depth=None):
    counter = TokenCounter(lambda text: (len(text) + 3) // 4, "quarters")
    return TASKS[task].sample(Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), depth=depth))


def turn(gold, **facts):
    return Turn(question="", gold=(gold,), scorer="", metadata=facts)


@pytest.mark.parametrize("seed", range(4))
def test_the_pieces_in_the_gold_order_are_the_running_text(seed):
    sample = made("tsort", seed=seed)
    texts = dict(document.text.split(":\n", 1) for document in sample.documents)
    labels = [int(n) for n in sample.gold[0].removeprefix("Answer: [").rstrip("]").split(", ")]
    whole = " ".join([texts["Before"], *(texts[f"Text {label}"] for label in labels), texts["After"]])
    running = Haystack.installed().from_seed(seed)
    text = ""
    while len(text) < len(whole):
        text = f"{text} {next(running)}".strip()
    assert text.startswith(whole)
    lengths = [len(texts[f"Text {label}"]) for label in labels]
    assert min(lengths) > 0.5 * max(lengths)


def test_pieces_of_a_repeating_text_begin_differently():
    sentences = [f"s{i % 10}." for i in range(100)]  # ten sentences that come ten times; pieces of 20 would all begin alike
    before, *pieces, after = parts(sentences, 10)
    assert " ".join([before, *pieces, after]) == " ".join(sentences)
    assert len({piece.split()[0] for piece in pieces}) == 4


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Answer: [3, 1, 2, 4]", 1),
        ("[3, 1, 2, 4]", 1),
        ("The order is 3, then 1, then 2 and last 4.", 1),
        ("Answer: [3]", 0),  # the published comparison stops at the shorter list
        ("Answer: [1, 2, 3, 4]", 0),
        ("3 1 2 4 or 1 2 3 4", 0),  # more than one permutation fits
        ("none", 0),
    ],
)
def test_an_order_is_read_as_published(reply, score):
    assert find.scorer("ada_leval_order")(reply, turn("Answer: [3, 1, 2, 4]")) == score


@pytest.mark.parametrize(("seed", "depth"), [(0, None), (1, 0.0), (2, 0.5), (3, 1.0)])
def test_the_right_candidate_continues_the_passage(seed, depth):
    sample = made("best_answer", seed=seed, depth=depth)
    passage = sample.question.splitlines()[1]
    running = Haystack.installed().from_seed(seed)
    text = " ".join(next(running) for _ in range(6))
    designation = sample.gold[0].removeprefix("Answer: ")
    candidates = dict(document.text.split(":\n", 1) for document in sample.documents)
    assert f"{passage} {candidates[designation]}" == text
    assert [c for c, answer in candidates.items() if passage[-60:] in answer or candidates[designation][:60] in answer] == [designation]
    assert list(candidates) == [f"A{i}" for i in range(1, sample.metadata["candidates"] + 1)]
    if depth is not None:
        assert int(designation[1:]) == 1 + round(depth * (len(candidates) - 1))


@pytest.mark.parametrize(
    ("reply", "score"),
    [("Answer: A12", 1), ("A12", 1), ("A1", 0), ("12", 1), ("A12, not A3", 1), ("A3, not A14", 0), ("A99 is A9", 0), ("none", 0)],
)
def test_the_highest_designation_counts(reply, score):
    assert find.scorer("ada_leval_designation")(reply, turn("Answer: A12", candidates=20)) == score


def test_the_published_files_are_read():
    first, second = TASKS["stackselect"].load(FIXTURES)
    assert [d.text for d in first.documents] == ["A1:\nBuy a pen.", "A2:\nTurn it in a sharpener.", "A3:\nWhy would you?"]
    assert first.gold == ("Answer: A2",)
    assert first.metadata["candidates"] == 3
    assert "sharpen a pencil" in first.question
    assert find.score("A1", second.asked[0]) == 1.0
    ordered = list(TASKS["textsort"].load(FIXTURES / "textsort_1k.json"))
    assert [s.gold[0] for s in ordered] == ["Answer: [3, 1, 2, 4]", "Answer: [1, 2, 3, 4]"]
    assert ordered[0].id == "ada_leval.textsort/textsort_1k/7_3_4_5_6"


@pytest.mark.parametrize("task", ["stackselect", "textsort"])
def test_a_missing_or_broken_file_is_told(task, tmp_path):
    for path in (None, tmp_path):
        with pytest.raises(SourceError, match=task):
            list(TASKS[task].load(path))
    broken = tmp_path / f"{task}_1k.json"
    for text in ("{", "{}"):
        broken.write_text(text)
        with pytest.raises(SourceError, match=r"JSON|list"):
            list(TASKS[task].load(tmp_path))


def test_a_tiny_haystack_is_refused():
    tiny = Haystack(("One sentence.",), "tiny")
    for task in ("tsort", "best_answer"):
        with pytest.raises(SourceError, match="at least"):
            TASKS[task].sample(Order(tokens=2048, seed=0, counter=TokenCounter(len, "c"), haystack=tiny))
