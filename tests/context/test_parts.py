"""What readers in parts share: merging that ends, what is left out, marks, and the way out."""

from __future__ import annotations

import time

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.parts import answer_from_best, marked, merged_until_fit, parts, those_that_fit
from baywindow.context.prompt import fenced, messages
from baywindow.context.run import Run


def at_most(total: int):
    return lambda some: sum(map(len, some)) <= total


def merged(run, notes, *, halve, total=8, group=8, worth=lambda note: 0.0):
    """Notes are strings whose length is their size; a merge keeps the first half of a group's letters, or all of them."""

    def merge(groups):
        return ["".join(g)[: len("".join(g)) // 2] if halve else "".join(g) for g in groups]

    return merged_until_fit(run, notes, fits=at_most(total), group_fits=at_most(group), merge=merge, worth=worth)


def test_notes_are_merged_in_order_group_by_group_until_they_fit(garden, scripted):
    run = Run("q", garden, scripted([]))
    # 16 letters: two a group (4+4 ≤ 8) → "aaaa", "cccc" (8 letters), which fit.
    assert merged(run, ["aaaa", "bbbb", "cccc", "dddd"], halve=True) == ["aaaa", "cccc"]
    assert run.notes == []


def test_notes_that_fit_are_left_as_they_are(garden, scripted):
    assert merged(Run("q", garden, scripted([])), ["aaaa", "bbbb"], halve=True) == ["aaaa", "bbbb"]
    assert merged(Run("q", garden, scripted([])), [], halve=True) == []


def test_merging_that_does_not_shrink_ends_and_leaves_out_the_least_worthy(garden, scripted):
    run = Run("q", garden, scripted([]))
    worth = {"aaaaa": 1.0, "bbbbb": 5.0, "ccc": 3.0}
    assert merged(run, list(worth), halve=False, group=4, worth=worth.__getitem__) == ["bbbbb", "ccc"]
    assert run.notes == ["1 of 3 notes did not fit and were left out"]


def test_a_merge_the_budget_does_not_allow_leaves_out_the_rest(garden, scripted):
    run = Run("q", garden, scripted([]))
    kept = merged_until_fit(run, ["aaaa"] * 3, fits=at_most(8), group_fits=at_most(8), merge=lambda groups: [None] * len(groups))
    assert kept == ["aaaa", "aaaa"]


def test_of_equal_worth_the_last_is_left_out():
    assert those_that_fit(["aaa", "bbb", "ccc"], at_most(6)) == ["aaa", "bbb"]
    assert those_that_fit(["aaaaaaa"], at_most(6)) == []


def test_parts_hold_at_most_the_text_asked_for_and_all_of_it(garden, scripted):
    run = Run("q", garden, scripted([], context_length=4096))
    packs = parts(run, None, lambda shown: messages("s", fenced(run, shown)), 10, text_tokens=25)
    assert [p.text for pack in packs for p in pack.shown] == [p.text for p in garden.passages()]
    # Lines of 7, 6 and 7 words with 5 of fence and 1 of separation: two would be 25 or more beside the fixed 5.
    assert len(packs) > 1


@pytest.mark.parametrize(
    ("said", "mark"),
    [("The beans came on 4 May.", " [1]"), ("The fence is green.", " [2]"), ("Roses [7]", ""), ("Quite unrelated", "")],
)
def test_a_note_without_a_mark_gets_that_of_the_passage_nearest_to_it(garden, scripted, said, mark):
    run = Run("q", garden, scripted([]))
    shown = [p for p in garden.passages() if "beans" in p.text or "fence" in p.text]
    fenced(run, shown)  # as a prompt has shown them
    assert marked(run, said, shown) == said + mark


def test_the_way_out_shows_the_passages_given_or_the_best_by_words(garden, scripted):
    model = scripted(["green [1]"])
    assert answer_from_best(Run("Which colour has the fence", garden, model), None, "answer", 20) == "green [1]"
    assert "painted green" in model.prompts[0][-1].content
    late = Run("q", garden, scripted([]), meter=Meter(budget=Budget(seconds=1), started=time.monotonic() - 2))
    assert answer_from_best(late, None, "answer", 20) == ""
