"""Search by words against the in-memory BM25, joining of two lists by hand, and packing into a budget."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from baywindow.documents.bm25 import Bm25
from baywindow.memory.prompting import OPEN, packed, packed_newest, rendered, without_recalled
from baywindow.memory.records import Recalled, Scope
from baywindow.memory.search import joined, same_text

DAY = datetime(2024, 5, 7, tzinfo=UTC)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_words_rank_and_score_as_the_bm25_of_the_library_does(make_memory, seed: int) -> None:
    rng = random.Random(seed)
    vocabulary = ["tea", "milk", "rain", "roof", "gold", "cats", "running", "moon", "the"]
    texts = [" ".join(rng.choices(vocabulary, k=rng.randint(1, 9))) + f" x{n}" for n in range(25)]
    memory = make_memory("turn_retrieval(by='words')", where=None)
    memory.add([{"role": "user", "name": "Ann", "content": t} for t in texts], Scope("ann"))
    memory.add([f"{t} of bob" for t in texts], Scope("bob"))
    for query in ("tea gold", "a cat runs in the rain", "tea tea milk"):
        scores = Bm25([f"Ann: {t}" for t in texts]).scores(query)
        expected = {f"Ann: {t}": float(s) for t, s in zip(texts, scores, strict=True) if s > 0}
        found = memory.search(query, Scope("ann"), 100)
        assert {one.text: one.score for one in found} == pytest.approx(expected, rel=1e-5)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_two_lists_are_joined_as_worked_by_hand() -> None:
    # Words: a 4, b 2. Meaning: b 0.6, c 0.2. Scaled: words a 1, b 1/2, c 0; meaning from -1: b 1.6/1.6, c 1.2/1.6, a as the last, c.
    found = joined([("a", 4.0), ("b", 2.0)], [("b", 0.6), ("c", 0.2)], 3)
    assert found == [("a", pytest.approx(0.5 * 0.75 + 0.5)), ("b", pytest.approx(0.5 + 0.25)), ("c", pytest.approx(0.375))]
    assert joined([], [], 3) == []
    assert [key for key, _ in joined([("a", 1.0)], [], 3)] == ["a"]


def test_both_searches_beside_each_other_are_the_two_one_after_the_other(make_memory) -> None:
    rng = random.Random(3)
    vocabulary = ["tea", "milk", "rain", "roof", "gold", "cats", "moon"]
    make_memory("turn_retrieval").add([" ".join(rng.choices(vocabulary, k=5)) + f" x{n}" for n in range(90)])
    one, other, both = (make_memory(f"turn_retrieval(by='{by}')") for by in ("words", "meaning", "both"))
    for query in ("tea gold", "a cat in the rain", "moon x7", "nothing of it"):
        words, meaning = ([(r.id, r.score) for r in memory.search(query, k=50)] for memory in (one, other))
        assert [(r.id, r.score) for r in both.search(query, k=8)] == joined(words, meaning, 8)
        assert len(meaning) == 50


def test_same_text_passes_over_case_spacing_and_the_last_full_stop() -> None:
    assert same_text(" Tea is  HOT. ") == same_text("tea is hot")
    assert same_text("tea is hot") != same_text("tea is not hot")


def words(text: str) -> int:
    return len(text.split())


def piece(text: str, n: int = 0) -> Recalled:
    return Recalled(text=text, turns=(f"t{n}",), said_at=DAY)


def test_the_best_that_fit_are_packed_and_equal_texts_once() -> None:
    # The fence counts 8 words (its two lines), a line two more than its text.
    assert words(OPEN) + 1 == 8
    found = [piece("a b c"), piece("A long one " + "x " * 50), piece("a b c", 1), piece("d e")]
    shown = packed(found, 8 + 5 + 4, words)
    assert [one.text for one in shown] == ["a b c", "d e"]
    assert [one.tokens for one in shown] == [5, 4]
    assert words(rendered(shown)) == 17
    assert [one.text for one in packed(found, 8 + 5 + 3, words)] == ["a b c"]
    assert packed(found, 8, words) == []


def test_a_first_one_that_is_too_long_is_cut_at_a_word() -> None:
    (shown,) = packed([piece("one two three four five six")], 8 + 6, words)
    assert shown.text == "one two three …"
    assert words(rendered([shown])) == 14


def test_the_newest_are_kept_without_gaps() -> None:
    turns = [piece("old"), piece("x " * 30), piece("new one"), piece("newest")]
    assert [one.text for one in packed_newest(turns, 8 + 4 + 3 + 4, words)] == ["new one", "newest"]
    assert packed_newest(turns, 3, words) == []


def test_only_our_own_fence_is_taken_out() -> None:
    block = rendered([piece("a")])
    assert without_recalled(f"before {block} after") == "before  after"
    assert without_recalled("I <remembered> it </remembered>") == "I <remembered> it </remembered>"
    assert without_recalled(f"x {block} y {block}") == "x  y"
