"""CIPHER: preferences from edits, found by the task at hand."""

from __future__ import annotations

import json
from functools import cache

import pytest

from baywindow.errors import ConfigError
from baywindow.memory.cipher import LEARN, MERGE, Cipher, edit_cost

from .talking import GARBAGE, Talk, by_rules

DRAFT = "We met on Monday and talked about the new boat for an hour"
EDITED = "We met on Monday and talked about the new boat"


def phrase(text: str) -> str:
    return json.dumps({"reasoning": "r", "preference": text})


@pytest.fixture
def cipher(scripted):
    def made(learnt="", merged="", **options) -> Talk:
        return Talk(Cipher(**options), scripted(by_rules({LEARN: learnt or phrase("short"), MERGE: merged or phrase("brief")})))

    return made


def round_of(talk: Talk, task: str, edited: str = EDITED) -> None:
    talk.add(task, {"content": DRAFT, "role": "assistant", "name": ""}, edited)


def test_nothing_is_preferred_before_anything_was_learnt(cipher):
    talk = cipher()
    assert talk.recall("Write a mail") == []
    with talk.working() as work:
        assert talk.system.preference(work, "Write a mail") is None


def test_an_edit_teaches_a_phrase_that_rests_on_task_and_edit(cipher):
    talk = cipher(phrase("one short sentence"))
    round_of(talk, "Summarise the meeting")
    (record,) = talk.records()
    assert record.text == "one short sentence"
    assert record.turns == (talk.turn("Summarise the meeting").id, talk.turn(EDITED).id)
    assert f"Draft:\n{DRAFT}\n\nChanged to:\n{EDITED}" in talk.prompts[0]
    assert talk.recall("Summarise the meeting on boats") == ["Preferred in such texts: one short sentence"]


def test_the_edit_may_come_in_a_later_add(cipher):
    talk = cipher()
    talk.add("Summarise the meeting")
    talk.add({"content": DRAFT, "role": "assistant", "name": ""})
    talk.add(EDITED)
    assert talk.texts() == ["short"]


@pytest.mark.parametrize("answer", [DRAFT, "Thank you, that is fine.", "No"])
def test_an_answer_that_is_no_edit_teaches_nothing(cipher, answer):
    talk = cipher()
    round_of(talk, "Summarise the meeting", answer)
    assert (talk.texts(), talk.prompts) == ([], [])


def test_the_nearest_task_decides_with_one_neighbour(cipher):
    talk = cipher([phrase("in rhyme"), phrase("as a list")], k=1)
    round_of(talk, "Write a birthday poem")
    round_of(talk, "Describe a chemical experiment", EDITED + " today")
    assert talk.recall("poem for a birthday") == ["Preferred in such texts: in rhyme"]
    assert talk.recall("another chemical experiment") == ["Preferred in such texts: as a list"]
    assert len(talk.prompts) == 2  # one phrase needs no merging


def test_several_phrases_are_merged_nearest_first(cipher):
    talk = cipher([phrase("in rhyme"), phrase("as a list")], phrase("rhymed list"))
    round_of(talk, "Write a birthday poem")
    round_of(talk, "Describe a chemical experiment", EDITED + " today")
    assert talk.recall("a chemical experiment") == ["Preferred in such texts: rhymed list"]
    assert "- as a list\n- in rhyme" in talk.prompts[-1]


def test_where_merging_fails_the_nearest_phrase_stands(cipher):
    talk = cipher([phrase("in rhyme"), phrase("as a list")], GARBAGE)
    round_of(talk, "Write a birthday poem")
    round_of(talk, "Describe a chemical experiment", EDITED + " today")
    assert talk.recall("a chemical experiment") == ["Preferred in such texts: as a list"]


def test_a_draft_that_was_accepted_keeps_the_used_phrase_for_its_task_too(cipher):
    talk = cipher(phrase("in rhyme"))
    round_of(talk, "Write a birthday poem")
    talk.add("Compose an ode to tea")
    with talk.working() as work:
        (used,) = work.records()
        talk.system.learn(work, talk.turn("Compose an ode to tea"), DRAFT, None, used)
        assert talk.system.learn(work, talk.turn("Compose an ode to tea"), DRAFT, None, None) is None  # None is not stored as text
    (record,) = talk.records()
    assert record.data["tasks"] == [talk.turn("Write a birthday poem").id, talk.turn("Compose an ode to tea").id]
    assert talk.texts() == ["in rhyme"]


def test_the_same_phrase_twice_is_one_memory_with_both_tasks(cipher):
    talk = cipher(phrase("short"))
    round_of(talk, "Write a birthday poem")
    round_of(talk, "Describe a chemical experiment", EDITED + " today")
    (record,) = talk.records()
    assert len(record.data["tasks"]) == 2


@pytest.mark.parametrize("reply", [GARBAGE, phrase(""), phrase("None"), phrase("No preference.")])
def test_an_edit_that_tells_nothing_is_not_stored_as_a_phrase(cipher, reply):
    talk = cipher(reply)
    round_of(talk, "Summarise the meeting")
    assert talk.texts() == []
    assert "kept as it was said" in talk.notes[0]
    assert talk.turn(EDITED)


def test_edit_cost_is_the_levenshtein_distance_over_words():
    @cache
    def slow(a: tuple[str, ...], b: tuple[str, ...]) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    assert edit_cost("the cat sat", "the dog sat down") == 2  # one replaced, one added
    for a, b in (("", "a b"), ("a b c d", "b c x"), ("a a b", "a b b a"), ("x", "x")):
        assert edit_cost(a, b) == slow(tuple(a.split()), tuple(b.split()))


def test_recalled_preferences_lower_the_cost_of_edits_over_a_stream(cipher):
    """Two kinds of task with a hidden style each; a user edits what does not have it. None at all, one for all, one a kind of task."""
    styles = {"poem": "rhyme", "report": "list"}
    tasks = [("poem", "write a poem on tea"), ("report", "write up the trial report")] * 4

    def cost(preference_of) -> int:
        total = 0
        for kind, task in tasks:
            draft = f"text {preference_of(task)}".strip()
            total += edit_cost(draft, f"text {styles[kind]}")
        return total

    talk = cipher(lambda prompt: phrase(prompt[-1].content.split("Changed to:\ntext ")[1].split("\n")[0]), k=1)
    for n, (kind, task) in enumerate(tasks[:2]):
        talk.add(task, {"content": f"text {n}", "role": "assistant", "name": ""}, f"text {styles[kind]}")
    learnt = cost(lambda task: talk.recall(task)[0].removeprefix("Preferred in such texts: "))
    assert learnt == 0 < cost(lambda task: "rhyme") < cost(lambda task: "") + 1


@pytest.mark.parametrize("wrong", [{"k": 0}, {"least_alike": 1}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Cipher(**wrong)
