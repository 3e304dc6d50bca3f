"""Running summaries: in parts where the window asks for it, never spoilt, never invented."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from baywindow.memory.records import Scope, Turn
from baywindow.memory.sessions import sessions
from baywindow.memory.summaries import SHORTEN, Folding, fitted, folded, grounded, unfolded

from .talking import GARBAGE, MONDAY, Talk, by_rules

HOW = Folding(name="test", rules="Sum up.", summary_tokens=20)


def summary(text: str) -> str:
    return json.dumps({"reasoning": "r", "summary": text})


def turns(*texts: str) -> list[Turn]:
    return [Turn(id=f"t{n}", role="user", speaker="Anna", text=t, said_at=MONDAY, scope=Scope("anna").stored) for n, t in enumerate(texts)]


def run(model, old, some):
    talk = Talk(None, model)
    with talk.working() as work:
        return folded(work, HOW, old, some), talk.notes


def test_a_summary_grows_from_the_old_one_and_the_turns(scripted):
    model = scripted([summary("Anna has a cat and a dog.")])
    (text, left), _ = run(model, "Anna has a cat.", turns("I got a dog."))
    assert (text, left) == ("Anna has a cat and a dog.", [])
    assert "Old summary: Anna has a cat." in model.prompts[0][-1].content


def test_more_turns_than_a_window_are_folded_in_parts_in_order(scripted):
    words = ["word", *"abcdefghijklmnopqrs"]  # a reply of one word twenty times would be ended as a circle
    model = scripted(lambda prompt: summary(" ".join(words)), context_length=190)
    some = turns(*(f"w{n} " + "word " * 20 for n in range(6)))
    (text, left), _ = run(model, "", some)
    assert (text.split(), left) == (words, [])
    assert len(model.prompts) > 2
    assert {asked.max_new_tokens for asked in model.samplings} == {HOW.reply_tokens}  # room for what the summary grows by
    together = " ".join(prompt[-1].content for prompt in model.prompts)
    assert [together.index(f"w{n} ") for n in range(6)] == sorted(together.index(f"w{n} ") for n in range(6))


def test_a_summary_too_long_for_the_window_is_itself_shortened_in_parts(scripted):
    old = " ".join(f"The cat number word is here now and then at noon {n}." for n in range(20))
    model = scripted(by_rules({SHORTEN: summary("The cat is here."), HOW.rules: summary("The cat.")}), context_length=220)
    (text, left), _ = run(model, old, turns("the cat"))
    assert (text, left) == ("The cat.", [])
    shortened = [prompt[-1].content for prompt in model.prompts if prompt[0].content == SHORTEN]
    assert len(shortened) > 1
    assert all(f"noon {n}." in "".join(shortened) for n in range(20))


def test_a_summary_that_cannot_be_shortened_is_cut_from_its_beginning(scripted):
    talk = Talk(None, scripted(lambda prompt: GARBAGE, context_length=220))
    with talk.working() as work:
        text = fitted(work, HOW, " ".join(f"Sentence {n} is here." for n in range(60)), turns("x"))
    assert text.endswith("Sentence 59 is here.")
    assert "was cut" in talk.notes[0]


@pytest.mark.parametrize("reply", [GARBAGE, summary(""), summary("John Doe came in 1999.")])
def test_a_spoilt_reply_leaves_the_old_summary_and_the_turns(scripted, reply):
    some = turns("I got a dog.")
    (text, left), notes = run(scripted(by_rules({HOW.rules: reply})), "Anna has a cat.", some)
    assert (text, left) == ("Anna has a cat.", some)
    assert "kept as they were said" in notes[0]


def test_sentences_that_nobody_said_and_echoed_labels_are_left_out():
    said = ["Anna has a cat called Mo since 2020."]
    assert grounded("Updated memory: Anna has a cat. It came in 2019. Tom hates Mo.", said) == "Anna has a cat."


def test_the_turns_since_the_last_told_one_are_found_however_many(scripted):
    talk = Talk(None)
    with talk.working(tuple(turns(*map(str, range(300))))):
        pass
    with talk.working() as work:
        assert [t.text for t in unfolded(work, {"t297", "t3"})] == ["298", "299"]
        assert len(unfolded(work, {"t10"})) == 289
        assert len(unfolded(work, set())) == 300


def test_sessions_part_where_names_change_or_nobody_spoke_for_long():
    def at(hours: float, session: str = "") -> Turn:
        scope = Scope("anna", session=session).stored
        return Turn(id=str(hours), role="user", text="x", said_at=MONDAY + timedelta(hours=hours), scope=scope)

    def lengths(*some: Turn) -> list[int]:
        return [len(one) for one in sessions(some, timedelta(hours=6))]

    assert lengths(at(0), at(6), at(12.1), at(13)) == [2, 2]
    assert lengths(at(0, "a"), at(100, "a"), at(100.1, "b"), at(100.2)) == [2, 1, 1]
    assert lengths() == []
