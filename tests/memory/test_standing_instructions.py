"""Standing instructions: kept as they were said, picked by number, in two passes."""

from __future__ import annotations

import json

import pytest

from baywindow.errors import ConfigError
from baywindow.memory.standing_instructions import FIND, REPLACE, REST, SELECT, StandingInstructions

from .talking import GARBAGE, Talk, by_rules

PROFILE = [
    "If I ask for flights, always search for direct ones.",
    "No peanuts in any meal you order.",
    "For direct flights, I prefer Iberia.",
]


def quotes(*found: tuple[int, str]) -> str:
    return json.dumps({"reasoning": "r", "instructions": [{"message": n, "quote": q} for n, q in found]})


def numbers(*found: int) -> str:
    return json.dumps({"reasoning": "r", "numbers": found})


def replaced(number: int) -> str:
    return json.dumps({"reasoning": "r", "number": number})


@pytest.fixture
def instructed(scripted):
    def made(found=None, *, selected="", rest="", replaces="", window=4096, **options) -> Talk:
        given = found or [quotes((1, text)) for text in PROFILE]
        replies = {FIND: given, SELECT: selected, REST: rest or numbers(), REPLACE: replaces or replaced(0)}
        talk = Talk(StandingInstructions(**options), scripted(by_rules(replies), context_length=window))
        if found is None:
            for text in PROFILE:
                talk.add(text)
        return talk

    return made


def test_an_instruction_is_kept_word_for_word_with_its_turn(instructed):
    talk = instructed([quotes((1, "always answer in French"))])
    talk.add("Hello, always answer in French please.")
    (record,) = talk.records()
    assert (record.text, len(record.turns)) == ("always answer in French", 1)


@pytest.mark.parametrize("wrong", [quotes((1, "always answer in Greek")), quotes((4, "always answer in French")), quotes()])
def test_what_the_user_did_not_say_is_no_instruction(instructed, wrong):
    talk = instructed([wrong])
    talk.add("Hello, always answer in French please.")
    assert talk.texts() == []


def test_what_the_assistant_says_is_no_instruction(instructed):
    talk = instructed([quotes((1, "always ask me"))])
    talk.add({"content": "You should always ask me.", "role": "assistant", "name": ""})
    assert (talk.texts(), talk.prompts) == ([], [])


def test_an_instruction_that_takes_the_place_of_another_supersedes_it(instructed):
    talk = instructed([quotes((1, "Always call me Al")), quotes((1, "Always call me Bob"))], replaces=replaced(1))
    talk.add("Always call me Al.")
    talk.add("Always call me Bob.")
    assert talk.texts() == ["Always call me Bob"]
    assert talk.texts(past=True) == ["Always call me Al", "Always call me Bob"]


def test_garbage_falls_back_on_sentences_that_read_like_one(instructed):
    talk = instructed([GARBAGE])
    talk.add("I am tired. From now on, keep it short! Never mind the rest?")
    assert set(talk.texts()) == {"From now on, keep it short!", "Never mind the rest?"}


def test_a_second_pass_finds_what_depends_on_the_first(instructed):
    talk = instructed(selected=numbers(1), rest=numbers(2))
    assert talk.recall("Find me a flight to Madrid") == [PROFILE[0], PROFILE[2]]
    second = talk.prompts[-1]
    assert f"Apply already:\n- {PROFILE[0]}" in second
    assert f"1. {PROFILE[1]}\n2. {PROFILE[2]}" in second  # the first is not offered again


def test_an_instruction_that_begins_with_no_is_not_read_as_none(instructed):
    talk = instructed(selected=numbers(2))
    assert talk.recall("Order me a meal") == [PROFILE[1]]


def test_one_pass_asks_once(instructed):
    talk = instructed(selected=numbers(1), rest=numbers(2), passes=1)
    asked = len(talk.prompts)
    assert talk.recall("Find me a flight") == [PROFILE[0]]
    assert len(talk.prompts) == asked + 1


def test_no_number_or_an_unknown_one_selects_nothing(instructed):
    assert instructed(selected=numbers(0, 9, -1)).recall("What is the time?") == []


def test_an_illegible_selection_falls_back_on_words(instructed):
    talk = instructed(selected=GARBAGE)
    assert talk.recall("Order a meal") == [PROFILE[1]]
    assert "could not be read" in talk.notes[-1]


@pytest.mark.parametrize("select", ["words", "meaning"])
def test_retrieval_takes_the_nearest_without_a_call(instructed, select):
    talk = instructed(select=select, k=1)
    asked = len(talk.prompts)
    assert talk.recall("Order a meal without peanuts") == [PROFILE[1]]
    assert len(talk.prompts) == asked


def test_a_profile_longer_than_the_window_is_gone_through_in_parts(instructed):
    talk = instructed(selected=numbers(1), passes=1)
    assert talk.recall("meal and flight") == [PROFILE[0]]
    talk.model.context_length = 256 + talk.model.count_tokens(talk.model.prompts[-1]) - 1
    assert talk.recall("meal and flight") == [PROFILE[0], PROFILE[1]]
    assert [prompt[0].content for prompt in talk.model.prompts].count(SELECT) == 3


@pytest.mark.parametrize("option", ["passes", "k"])
def test_options_below_their_least_are_refused(option):
    with pytest.raises(ConfigError, match=option):
        StandingInstructions(**{option: 0})
