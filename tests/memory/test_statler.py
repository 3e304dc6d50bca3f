"""Statler: a state that is read and written by two prompts, and never replaced by a broken one."""

from __future__ import annotations

import json

import pytest

from baywindow.errors import ConfigError
from baywindow.memory.statler import ANSWER, READ, WRITE, Statler

from .talking import GARBAGE, Talk, by_rules


def changes(*made: tuple[int, str, str]) -> str:
    return json.dumps({"reasoning": "r", "changes": [{"message": n, "quote": q, "change": c} for n, q, c in made]})


def state(**things: dict) -> str:
    return json.dumps({"reasoning": "r", "state": things})


CUPS = {"red cup": {"under": "ball"}, "blue cup": {"under": "nothing"}}
START = changes((1, "ball is under the red cup", "the ball is under the red cup, nothing under the blue cup"))
SWAP = changes((1, "Swap the cups", "the ball is under the blue cup, nothing under the red cup"))
SAID = "The ball is under the red cup, nothing is under the blue cup."


@pytest.fixture
def statler(scripted):
    def made(read, written, *, answered="", **options) -> Talk:
        return Talk(Statler(**options), scripted(by_rules({READ: read, WRITE: written, ANSWER: answered})))

    return made


def test_a_message_changes_the_state_and_the_state_replaces_the_story(statler):
    talk = statler([START, SWAP], [state(**CUPS), state(**{"red cup": {"under": "nothing"}, "blue cup": {"under": "ball"}})])
    talk.add(SAID)
    talk.add("Swap the cups.")
    assert talk.recall("Where is the ball?") == ["blue cup: under ball", "red cup: under nothing"]
    assert SAID not in talk.prompts[2]  # what was said before is never replayed
    assert f"State: {json.dumps(CUPS)}" in talk.prompts[2]
    assert "Change: the ball is under the blue cup" in talk.prompts[3]


def test_every_state_rests_on_the_turns_it_came_from_and_the_old_one_is_history(statler):
    talk = statler([START, SWAP], [state(**CUPS), state(**{"red cup": {"under": "nothing"}, "blue cup": {"under": "ball"}})])
    talk.add(SAID)
    talk.add("Swap the cups.")
    old, new = talk.records("state", past=True)
    assert (old.superseded_by, new.turns) == (new.id, (talk.turn(SAID).id, talk.turn("Swap the cups.").id))


def test_a_question_changes_nothing(statler):
    talk = statler([START, changes()], state(**CUPS))
    talk.add(SAID)
    talk.add("Where is the ball?")
    assert len(talk.texts("state", past=True)) == 1


def test_changes_of_one_message_are_written_one_after_the_other_on_the_changed_state(statler):
    two = changes((1, "box to the left", "the box is left"), (1, "lamp goes on", "the lamp is on"))
    talk = statler(two, [state(box={"place": "left"}), state(box={"place": "left"}, lamp={"is": "on"})])
    talk.add("Put the box to the left, then the lamp goes on.")
    assert 'State: {"box": {"place": "left"}}' in talk.prompts[2]
    with talk.working() as work:
        assert talk.system.state(work) == {"box": {"place": "left"}, "lamp": {"is": "on"}}


@pytest.mark.parametrize(
    "broken",
    [
        GARBAGE,
        '{"reasoning": "r", "state": {"red cup": {"under": "nothing"}, "blue cup": {"un',  # cut off
        state(**{"blue cup": {"under": "the ball"}}),  # the red cup is gone
        state(**CUPS, **{"Nikon 9": {"under": "ball"}}),  # made up
        state(),
    ],
)
def test_a_broken_state_never_replaces_a_good_one_and_the_change_waits(statler, broken):
    move = changes((1, "ball under the blue cup", "the ball is under the blue cup"))
    moved = state(**{"red cup": {"under": "nothing"}, "blue cup": {"under": "ball"}})
    talk = statler([START, move, changes()], [state(**CUPS), broken, moved])
    talk.add(SAID)
    talk.add("Put the ball under the blue cup.")
    assert talk.recall("ball") == ["the ball is under the blue cup", "red cup: under ball", "blue cup: under nothing"]
    talk.add("Thanks.")  # and is tried again
    assert talk.recall("ball") == ["blue cup: under ball", "red cup: under nothing"]


def test_what_the_reader_cannot_say_waits_as_it_was_said(statler):
    talk = statler([GARBAGE], state(**CUPS))
    talk.add("The ball is under the red cup.")
    assert talk.texts() == ["Anna: The ball is under the red cup."]


@pytest.mark.parametrize(
    "invented", [(1, "ball is gone", "the ball is gone"), (9, "", "x"), (1, "ball is under the red cup", "Max took 7")]
)
def test_a_change_that_nobody_said_is_refused(statler, invented):
    talk = statler(changes(invented), state(**CUPS))
    talk.add(SAID)
    assert talk.texts() == []


def test_the_door_of_a_task_replies_from_the_state_and_changes_it(statler):
    step = json.dumps(
        {"reasoning": "it is red", "reply": "Done.", "changes": ["the ball is under the blue cup, nothing under the red cup"]}
    )
    asked = json.dumps({"reasoning": "the state says so", "reply": "Under the blue cup.", "changes": []})
    written = [state(**CUPS), state(**{"red cup": {"under": "nothing"}, "blue cup": {"under": "ball"}})]
    talk = statler(START, written, answered=[step, asked])
    talk.add(SAID)
    for text, reply in (("Swap the red and blue cup with ball and nothing.", "Done."), ("Where is the ball?", "Under the blue cup.")):
        turn = talk.told(text)
        with talk.working([turn]) as work:
            done = talk.system.step(work, turn)
        assert done.reply == reply
        assert done.state["blue cup"] == {"under": "ball"}
    assert f"State: {json.dumps(done.state)}" in talk.prompts[-1]


def test_a_state_that_a_person_broke_by_hand_starts_anew(statler):
    talk = statler(START, state(**CUPS))
    talk.add(SAID)
    with talk.working() as work:
        work.update(work.records("state")[0], "no state", [talk.turn(SAID)])
        assert talk.system.state(work) == {}


def test_options_below_their_least_are_refused():
    with pytest.raises(ConfigError, match="state_tokens"):
        Statler(state_tokens=1)
