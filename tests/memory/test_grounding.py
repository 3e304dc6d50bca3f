"""Invented names, misquoted words and pronouns without a person."""

from __future__ import annotations

import pytest

from baywindow.memory.grounding import attributed, holds, shares_words, unsaid

TURN = "I moved to Lyon in 2019, and my sister's café opened yesterday!"


@pytest.mark.parametrize("quote", ["moved to Lyon", "MOVED to lyon", "my sister’s cafe opened", "in 2019 and my sister's", TURN])
def test_words_of_the_turn_are_its_words(quote: str):
    assert holds(TURN, quote)


@pytest.mark.parametrize("quote", ["", "Lyon", "moved Lyon", "move to Lyon", "moved to Lyons", "opened today"])
def test_other_words_are_not(quote: str):
    assert not holds(TURN, quote)


def test_a_turn_of_one_word_can_be_quoted():
    assert holds("Pizza!", "pizza")
    assert not holds("Pizza!", "")


def test_names_and_numbers_that_nobody_said_are_found():
    assert unsaid("Anna moved to Lyon in 2018 with John Doe.", ["Anna", TURN]) == ["2018", "John", "Doe"]
    assert unsaid("John Doe lives in Lyon.", [TURN]) == ["John", "Doe"]
    assert unsaid("Tom moved to Lyon. Eva's sister moved. Max is in Lyon.", [TURN]) == ["Tom", "Eva's", "Max"]


def test_a_fact_in_other_words_of_the_same_things_passes():
    assert unsaid("Anna moved to Lyon in 2019. Her sister has opened a café.", ["Anna", TURN]) == []
    assert unsaid("2 dogs since 05/2019", ["two dogs since May 2019 (2019-05)"]) == []
    assert unsaid("Moving to Lyon happened in 2019.", [TURN]) == []


def test_a_fact_must_have_something_of_its_turn():
    assert shares_words("Anna lives in Lyon", [TURN])
    assert not shares_words("The user likes pizza", [TURN])


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        ("I'm allergic to nuts", "Anna said: I'm allergic to nuts"),
        ("Bought my first car", "Anna said: Bought my first car"),
        ("She likes tea", "Anna said: She likes tea"),
        ("Anna likes  tea", "Anna likes tea"),
        ("The iPad is Anna's", "The iPad is Anna's"),
    ],
)
def test_who_is_meant_is_kept(fact: str, said: str):
    assert attributed(fact, "Anna") == said


def test_without_a_speaker_nothing_is_put_in_front():
    assert attributed("I like tea", "") == "I like tea"
