"""HEMA: one sentence, summaries of summaries, exact chunks, and what fades."""

from __future__ import annotations

import json
import math

import pytest

from baywindow.errors import ConfigError
from baywindow.memory.hema import BEFORE, CHUNK, NOW, Hema, chunks
from baywindow.memory.records import Scope, Turn

from .talking import GARBAGE, MONDAY, Talk, by_rules


def summary(text: str) -> str:
    return json.dumps({"reasoning": "r", "summary": text})


@pytest.fixture
def hema(scripted):
    def made(now="", before="", **options) -> Talk:
        replies = {NOW.rules: now or summary("they talk"), BEFORE.rules: before or summary("they talk on")}
        return Talk(Hema(**options), scripted(by_rules(replies)))

    return made


def test_chunks_hold_every_word_and_say_who_spoke():
    turn = Turn(id="t", role="user", speaker="Anna", text="one two three four five", said_at=MONDAY, scope=Scope().stored)
    assert chunks(turn, 2) == ["Anna: one two", "Anna: three four", "Anna: five"]
    assert chunks(turn, 4) == ["Anna: one two three", "Anna: four five"]  # of about the same length
    assert chunks(turn, 9) == ["Anna: one two three four five"]


def test_a_prompt_has_summary_chunks_and_latest_turns_in_this_order(hema):
    talk = hema(summary("we talk of pets"), recent_turns=2, k=1)
    talk.add("My cat is called Mo, we talk.", "We talk of pets.")
    for text in ("It rains.", "It is late.", "Good night."):
        talk.add(text)
    assert talk.recall("What is the name of the cat?") == [
        "we talk of pets",
        "Anna: My cat is called Mo, we talk.",
        "Anna: It is late.",
        "Anna: Good night.",
    ]


def test_what_is_among_the_latest_turns_is_not_shown_twice(hema):
    talk = hema(recent_turns=5)
    talk.add("they talk of the cat")
    assert talk.recall("cat").count("Anna: they talk of the cat") == 1


def test_a_block_ends_and_its_sentence_goes_into_the_summary_of_summaries(hema):
    talk = hema([summary("I sow"), summary("I mow"), summary("I reap")], summary("I sow and mow"), block_turns=2)
    talk.add("I sow", "I sow")
    assert (talk.texts("block"), talk.texts("sentence")) == (["I sow"], [])
    talk.add("I mow", "I mow")
    assert (talk.texts("block"), talk.texts("sentence")) == (["I sow and mow"], [])
    talk.add("I reap")
    assert (talk.texts("block"), talk.texts("sentence")) == (["I sow and mow"], ["I reap"])
    assert "Old summary: Empty" in talk.prompts[-1]  # a new block, a new sentence: errors do not build up


def test_an_unreadable_summary_loses_no_turn(hema):
    talk = hema([GARBAGE, summary("the cat and the dog")])
    talk.add("the cat")
    assert talk.texts() == ["Anna: the cat"]
    talk.add("the dog")
    assert "the cat" in talk.prompts[-1]
    assert "the dog" in talk.prompts[-1]
    assert len(talk.records("sentence")[0].turns) == 2


def test_the_weight_is_the_one_that_is_written_down():
    system = Hema(decay_chunks=100, use_weight=0.5)
    assert system.weight(0, 0) == 1
    assert system.weight(100, 0) == pytest.approx(1 / math.e)
    assert system.weight(100, 2) == pytest.approx(2 / math.e)


@pytest.mark.parametrize(("use_weight", "kept"), [(0.0, False), (50.0, True)])
def test_age_alone_drops_an_early_fact_that_use_keeps(hema, use_weight, kept):
    talk = hema(most_chunks=4, block_turns=8, decay_chunks=2, use_weight=use_weight)
    talk.add("The passphrase is marigold.")
    talk.add("Tell me the passphrase again.")
    for n in range(6):
        talk.add(f"filler{n} filler{n}")
    assert ("Anna: The passphrase is marigold." in talk.texts(CHUNK)) is kept
    assert len(talk.texts(CHUNK)) == 4
    assert talk.turn("The passphrase is marigold.")  # the words themselves stay


def test_equal_turns_are_one_chunk(hema):
    talk = hema()
    talk.add("the cat")
    talk.add("the cat")
    assert talk.texts(CHUNK) == ["Anna: the cat"]
    assert len(talk.records(CHUNK)[0].turns) == 2


def test_options_below_their_least_are_refused():
    with pytest.raises(ConfigError, match="most_chunks"):
        Hema(most_chunks=0)
