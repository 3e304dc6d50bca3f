"""Sculptor: a model tidies its view of a text, or of a conversation; nothing is lost by it."""

from __future__ import annotations

import json

import pytest

from baywindow.errors import ConfigError, ContextLengthError
from baywindow.memory.sculptor import TIDY, Sculptor
from baywindow.memory.sculptor.answering import RULES
from baywindow.memory.sculptor.view import View

from .talking import GARBAGE, Talk, by_rules


def tool(action: str, *pieces: str, text: str = "") -> str:
    return json.dumps({"reasoning": "r", "action": action, "pieces": pieces, "text": text})


def tidied(action: str, summary: str = "") -> str:
    return json.dumps({"reasoning": "r", "action": action, "summary": summary})


@pytest.fixture
def sculptor(scripted):
    def made(*tools: str, tidy="", window=4096, **options) -> Talk:
        return Talk(Sculptor(**options), scripted(by_rules({RULES: list(tools), TIDY: tidy}), context_length=window))

    return made


def ask(talk: Talk, text):
    with talk.working() as work:
        return talk.system.answer(work, "What is the code?", text)


KEYS = View.of(["The code is 41.\n", "The code is 57.\n", "Lunch was late.\n"])


def test_the_model_hides_what_is_stale_and_answers_from_what_is_left(sculptor):
    talk = sculptor(tool("hide", "p1", "p3"), tool("answer", text="57"))
    done = ask(talk, KEYS)
    assert done.answer == "57"
    assert done.steps == ("hide p1, p3: done",)
    assert "[p1] The code is 41." in talk.prompts[0]
    assert "[p1] The code is 41." not in talk.prompts[1]
    assert done.view.text == KEYS.text  # originals are never altered


def test_every_tool_works_and_its_result_is_shown_with_the_next_view(sculptor):
    talk = sculptor(
        tool("summarise", "p3", text="about lunch"),
        tool("hide", "p2"),
        tool("find", text="CODE IS"),
        tool("search", text="lunch late"),
        tool("restore", "p2", "p3"),
        tool("fragment", "p1"),
        tool("answer", text="57"),
    )
    done = ask(talk, KEYS)
    assert "[p3, summary] about lunch" in talk.prompts[1]
    assert "[p2, hidden: The code is 57." in talk.prompts[2]
    assert "in p1: The code is 41.; in p2: The code is 57." in talk.prompts[3]
    assert "Result of your last action: search : in p3: Lunch was late." in talk.prompts[4]
    assert "[p3] Lunch was late." in talk.prompts[5]
    assert [p.id for p in done.view.pieces][-2:] == ["p2", "p3"]
    assert all(p.id.startswith("p1.") for p in done.view.pieces[:-2])


@pytest.mark.parametrize(("wrong", "words"), [(tool("hide", "p9"), "no piece 'p9'"), (tool("hide"), "no piece was named")])
def test_an_action_that_makes_no_sense_is_refused_and_told(sculptor, wrong, words):
    talk = sculptor(wrong, tool("answer", text="57"))
    assert ask(talk, KEYS).view == KEYS
    assert words in talk.prompts[1]


def test_the_last_step_must_answer_and_the_loop_ends(sculptor):
    talk = sculptor(tool("hide", "p1"), steps=2)
    done = ask(talk, KEYS)
    assert (done.answer, len(talk.prompts)) == ("", 3)
    assert "This is the last action" in talk.prompts[2]


def test_garbage_ends_the_loop_without_an_answer_or_a_loss(sculptor):
    done = ask(sculptor(GARBAGE), KEYS)
    assert (done.answer, done.view) == ("", KEYS)


def test_a_text_longer_than_the_window_is_cut_and_hidden_until_it_fits(sculptor):
    text = "".join(f"Line {n} of the long text is here.\n" for n in range(150))
    talk = sculptor(tool("restore", "p1.1"), tool("find", text="Line 0 of"), tool("answer", text="x"), window=900)
    done = ask(talk, text)
    assert "[p1.1, hidden: Line 0" in talk.prompts[0]
    assert "in p1.1: Line 0 of the long text" in talk.prompts[2]
    assert done.view.text == text


def test_a_window_too_small_for_the_stubs_is_an_error(sculptor):
    with pytest.raises(ContextLengthError, match="every piece hidden"):
        ask(sculptor(window=300), View.of([f"{n} " * 50 for n in range(20)]))


# As a memory


def full(tidy, **options):
    return dict(tidy=tidy, view_tokens=32, **options)


OLD = "The safe opens with 4711 and " + "so on " * 15
NEW = "Today is a quiet day and " + "so on " * 15


def test_an_old_session_leaves_the_view_and_can_still_be_found(sculptor):
    talk = sculptor(**full(tidied("summarise", "Anna spoke of the safe.")))
    talk.add(OLD, session="one")
    talk.add(NEW, session="two")
    assert talk.texts() == ["Anna spoke of the safe."]
    shown = talk.recall("quiet day")
    assert f"Anna: {NEW}" in shown
    assert f"Anna: {OLD}" in shown  # there is room for what a search finds
    assert f"Anna: {OLD}" in talk.recall("Which number opens the safe?")


@pytest.mark.parametrize("tidy", [tidied("hide"), GARBAGE, tidied("summarise", "Bob took 9 rings.")])
def test_what_is_hidden_unreadable_or_made_up_is_hidden_with_its_words_kept(sculptor, tidy):
    talk = sculptor(**full(tidy))
    talk.add(OLD, session="one")
    talk.add(NEW, session="two")
    (record,) = talk.records()
    assert record.data["state"] == "hidden"
    assert record.text == f"Anna: {OLD}".strip()
    assert f"Anna: {OLD}" in talk.recall("Which number opens the safe?")


def test_a_short_conversation_is_shown_as_it_is_without_a_call(sculptor):
    talk = sculptor()
    talk.add("One.", session="a")
    talk.add("Two.", session="b")
    assert talk.recall("?") == ["Anna: One.", "Anna: Two."]
    assert talk.prompts == []


def test_the_conversation_is_a_view_that_can_be_restored(sculptor):
    talk = sculptor(**full(tidied("hide")))
    talk.add(OLD, session="one")
    talk.add(NEW, session="two")
    with talk.working() as work:
        assert [p.state for p in talk.system.view(work).pieces] == ["hidden", "shown"]
        talk.system.restore(work, work.records()[0])
        assert [p.state for p in talk.system.view(work).pieces] == ["shown", "shown"]
        assert talk.system.view(work).text == f"Anna: {OLD}\nAnna: {NEW}\n"


def test_options_below_their_least_are_refused():
    with pytest.raises(ConfigError, match="view_tokens"):
        Sculptor(view_tokens=1)
