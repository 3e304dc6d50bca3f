"""Texts made to a token length."""

from __future__ import annotations

import random

import pytest

from baywindow.bench.counting import TokenCounter, cut, insert_at, most, take
from baywindow.bench.haystack import Haystack, sentences_of
from baywindow.errors import SourceError


class Pairs:
    """A tokenizer that is not additive: every two characters of the whole text are a token."""

    calls = 0

    def __call__(self, text: str) -> int:
        self.calls += 1
        return (len(text) + 1) // 2


@pytest.fixture
def counter():
    return TokenCounter(Pairs(), "pairs")


@pytest.mark.parametrize("tokens", [1, 2, 7, 100, 5000, 131072])
def test_most_is_the_largest_that_fits(tokens):
    count = Pairs()
    text = lambda n: "abcde" * n  # noqa: E731
    n = most(text, tokens, TokenCounter(count, "pairs"))
    assert Pairs()(text(n)) <= tokens < Pairs()(text(n + 1))
    assert count.calls < 25


def test_most_with_units_of_very_different_lengths():
    rng = random.Random(0)
    units = ["x" * rng.choice([1, 3, 400]) for _ in range(3000)]
    text = lambda n: " ".join(units[:n])  # noqa: E731
    n = most(text, 20000, TokenCounter(Pairs(), "pairs"))
    assert Pairs()(text(n)) <= 20000 < Pairs()(text(n + 1))


@pytest.mark.parametrize("tokens", [50, 333, 4096])
def test_take_comes_within_two_percent_and_never_above(counter, tokens):
    units = [f"Sentence number {i} speaks of nothing but itself and its neighbours in the row." for i in range(2000)]
    whole = " ".join(take(units, tokens, counter))
    assert 0.98 * tokens - 3 <= counter(whole) <= tokens
    assert " ".join(units).startswith(whole)


def test_take_ends_when_the_units_do(counter):
    assert take(["one", "two"], 1000, counter) == ["one", "two"]


def test_cut_ends_at_a_word(counter):
    assert cut("alpha beta gamma", 5, counter) == "alpha beta"  # 10 characters are 5 tokens
    assert cut("alpha beta", 2, counter) == ""
    assert cut("", 5, counter) == ""


def test_insert_at_depths():
    assert insert_at(["a", "b"], [(0.0, "X"), (1.0, "Z"), (0.5, "Y"), (0.5, "y")]) == ["X", "a", "Y", "y", "b", "Z"]


def test_the_installed_haystack_is_prose_and_endless():
    hay = Haystack.installed()
    assert len(hay.sentences) > 1000
    assert sum(len(s) for s in hay.sentences) > 120_000
    first = iter(hay)
    assert [next(first) for _ in range(3)] == list(hay.sentences[:3])
    assert next(hay.from_seed(1)) != next(hay.from_seed(2))


def test_code_and_tables_are_no_sentences():
    assert (
        sentences_of("    x = indented_code(here, that, goes, on, for_a, while).\n\n+---+---+ a table of some length with a full stop.")
        == []
    )
    assert sentences_of("This is the first sentence here. And this is the second one.") == [
        "This is the first sentence here.",
        "And this is the second one.",
    ]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no text to hide"):
        Haystack.folder(tmp_path)
