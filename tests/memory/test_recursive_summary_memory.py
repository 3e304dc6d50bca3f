"""Recursive summaries: one memory, written anew session by session, in order."""

from __future__ import annotations

import json

import pytest

from baywindow.errors import ConfigError
from baywindow.memory.recursive_summary_memory import RecursiveSummaryMemory

from .talking import GARBAGE, Talk, by_rules


def memory(text: str) -> str:
    return json.dumps({"reasoning": "r", "summary": text})


@pytest.fixture
def rsum(scripted):
    def made(*replies: str, window: int = 4096, **options) -> Talk:
        return Talk(RecursiveSummaryMemory(**options), scripted(by_rules({"Write the memory": list(replies)}), context_length=window))

    return made


def test_a_session_is_folded_when_the_next_begins_and_not_before(rsum):
    talk = rsum(memory("Anna has a cat."))
    talk.add("I have a cat.", session="one")
    talk.add("Good night.", session="one")
    assert (talk.texts(), talk.prompts) == ([], [])
    talk.add("Good morning.", session="two")
    assert talk.texts() == ["Anna has a cat."]
    assert "Old summary: Empty" in talk.prompts[0]
    assert "I have a cat." in talk.prompts[0]
    assert "Good night." in talk.prompts[0]
    assert "Good morning." not in talk.prompts[0]


def test_the_new_memory_replaces_the_old_and_rests_on_all_sessions(rsum):
    talk = rsum(memory("Anna lives in Rome."), memory("Anna lives in Oslo."))
    for n, text in enumerate(["I live in Rome.", "I moved to Oslo.", "Hello."]):
        talk.add(text, session=str(n))
    (record,) = talk.records()
    assert record.text == "Anna lives in Oslo."
    assert record.turns == (talk.turn("I live in Rome.").id, talk.turn("I moved to Oslo.").id)
    assert talk.texts(past=True) == ["Anna lives in Rome.", "Anna lives in Oslo."]
    assert "Old summary: Anna lives in Rome." in talk.prompts[1]


def test_a_question_sees_the_memory_and_the_open_session_word_for_word(rsum):
    talk = rsum(memory("Anna has a cat."))
    talk.add("I have a cat.", session="one")
    talk.add("It is raining.", "It stopped.", session="two")
    assert talk.recall("What pet has Anna?") == ["Anna has a cat.", "Anna: It is raining.", "Anna: It stopped."]


def test_where_not_all_fits_the_newest_turns_stay_behind_the_memory(rsum):
    talk = rsum(memory("Anna has a cat."))
    talk.add("I have a cat.", session="one")
    talk.add("old " * 10, "new " * 10, session="two")
    recalled = talk.recall("?", budget_tokens=30)
    assert recalled == ["Anna has a cat.", "Anna: " + "new " * 10]


def test_sessions_wait_for_one_that_could_not_be_folded(rsum):
    talk = rsum(GARBAGE, GARBAGE, memory("Anna has a cat."), memory("Anna has a cat and a dog."))
    talk.add("I have a cat.", session="one")
    talk.add("I have a dog.", session="two")  # the first session is spoilt
    talk.add("Hello.", session="three")  # and again
    assert talk.texts() == []
    assert talk.recall("?") == ["Anna: I have a cat.", "Anna: I have a dog.", "Anna: Hello."]
    talk.add("Bye.", session="four")
    folds = [p.split("</conversation>")[0] for p in talk.prompts if "Old summary" in p]
    assert [("I have a cat." in p, "I have a dog." in p, "Hello." in p) for p in folds] == [
        *[(True, False, False)] * 3,
        (False, True, False),
        (False, False, True),
    ]
    assert talk.texts() == ["Anna has a cat and a dog."]


def test_the_cap_on_sentences_is_kept_even_if_the_model_does_not(rsum):
    talk = rsum(memory("I eat. I run. I sleep. I sing."), sentences=2)
    talk.add("I eat, run, sleep, sing.", session="one")
    talk.add("Hello.", session="two")
    assert talk.texts() == ["I eat. I run."]


def test_without_names_sessions_are_told_apart_by_a_pause(rsum):
    talk = rsum(memory("Anna has a cat."), gap_hours=0)
    talk.add("I have a cat.")
    talk.add("Hello.")
    assert talk.texts() == ["Anna has a cat."]


def test_options_below_their_least_are_refused():
    with pytest.raises(ConfigError, match="sentences"):
        RecursiveSummaryMemory(sentences=0)
