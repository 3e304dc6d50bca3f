"""Sentences, phrases and words as spans."""

from __future__ import annotations

import pytest

from baywindow.context.compress._units import LONGEST, phrases, sentences, words


def cut(text: str, spans) -> list[str]:
    return [text[a:b] for a, b in spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("It cost 3.50 at example.com. Cheap.", ["It cost 3.50 at example.com.", "Cheap."]),
        ("A wrapped\nline goes on. Next.", ["A wrapped\nline goes on.", "Next."]),
        ("Title\n\nText without stop", ["Title", "Text without stop"]),
        ("- one\n- two\n1. three", ["- one", "- two", "1. three"]),
        ("| a | b |\n| 1 | 2 |\n", ["| a | b |", "| 1 | 2 |"]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("港は閉じた。寒い。", ["港は閉じた。", "寒い。"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert cut(text, sentences(text)) == expected


def test_sentences_hold_everything_but_white_space_and_are_never_too_long() -> None:
    text = "word " * 500 + "x" * 2000 + ". End."
    spans = sentences(text)
    assert max(b - a for a, b in spans) <= LONGEST
    assert "".join(cut(text, spans)).replace(" ", "") == text.replace(" ", "")


def test_phrases_begin_with_their_function_words() -> None:
    text = "The old pier of the harbour was closed, in 1987."
    assert cut(text, phrases(text)) == ["The old pier", "of the harbour", "was closed,", "in 1987."]
    assert cut("of the", phrases("of the")) == ["of the"]


def test_words_of_scripts_without_spaces_are_small_pieces() -> None:
    assert cut("two words", words("two words")) == ["two", "words"]
    assert cut("港は閉鎖された", words("港は閉鎖された")) == ["港は", "閉鎖", "され", "た"]
