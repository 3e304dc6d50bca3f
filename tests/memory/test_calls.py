"""Model calls of a memory: replies as forms, one repair, the window and the budget."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, Field

from baywindow.budget import Budget, Meter
from baywindow.errors import CapabilityError, ContextLengthError
from baywindow.memory.calls import REPAIR_SYSTEM, Caller, Items, read, strict_schema, worded
from baywindow.models.base import Message


class Fact(BaseModel):
    text: str = Field(description="one fact")
    turn: int = Field(description="number of its message")


class Facts(BaseModel):
    reasoning: str = Field(description="what is new here")
    facts: list[Fact]
    action: Literal["ADD", "NOOP"] = "ADD"


PROMPT = (Message("system", "Name facts."), Message("user", "1: I like tea"))
GOOD = '{"reasoning": "tea", "facts": [{"text": "likes tea", "turn": 1}], "action": "ADD"}'


def test_a_form_is_asked_for_in_words_and_as_a_strict_schema() -> None:
    assert worded(Facts) == (
        'Reply only with JSON: {"reasoning": "<what is new here>", "facts": [{"text": "<one fact>", '
        '"turn": <number of its message>}, ...], "action": "ADD" or "NOOP"}'
    )
    schema = strict_schema(Facts)
    assert schema["required"] == ["reasoning", "facts", "action"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Fact"]["required"] == ["text", "turn"]
    assert "default" not in schema["properties"]["action"]


@pytest.mark.parametrize("reply", [GOOD, f"<think>{{}}</think>Here:\n```json\n{GOOD}\n```", f'{{"other": 1}} and {GOOD}'])
def test_a_reply_is_read_forgivingly(scripted, reply: str) -> None:
    model = scripted([reply])
    found = Caller(model).ask(PROMPT, Facts, name="extract")
    assert found is not None
    assert found.facts == [Fact(text="likes tea", turn=1)]
    assert len(model.prompts) == 1
    assert model.samplings[0].json_schema == strict_schema(Facts)


def test_a_reply_without_form_is_mended_once_without_sending_the_turns_again(scripted) -> None:
    model = scripted(["Tea, I think.", GOOD])
    assert Caller(model).ask(PROMPT, Facts, name="extract") is not None
    system, user = model.prompts[1]
    assert system.content == REPAIR_SYSTEM
    assert "Tea, I think." in user.content
    assert "The reply holds no JSON." in user.content
    assert worded(Facts) in user.content
    assert "I like tea" not in user.content


class Listed(Facts, Items): ...


ITEM, OTHER = '{"text": "likes tea", "turn": 1}', '{"text": "has a dog", "turn": 2}'


@pytest.mark.parametrize(
    "end",
    ["]", ",]}", ", ]}", f", {OTHER[:20]}", f", {OTHER[:-1]}", ", ", ", {", "", f", {OTHER[:-1]}, "],
)
def test_what_was_complete_when_a_reply_broke_off_counts(scripted, end: str) -> None:
    """A model that is held to a list goes on after a comma, until its tokens are used up: no second call for what it has said."""
    model = scripted([f'{{"reasoning": "tea", "facts": [{ITEM}{end}'])
    found = Caller(model).ask(PROMPT, Listed, name="extract")
    assert found is not None
    assert found.facts[0] == Fact(text="likes tea", turn=1)
    assert len(found.facts) == (2 if OTHER[:-1] in end else 1)
    assert len(model.prompts) == 1


@pytest.mark.parametrize(
    "reply", [f'{{"facts": [{ITEM[:-4]}', '{"reasoning": "tea", "facts": [{"text": "likes', '{"reasoning": "te', "[", "{,}"]
)
def test_what_broke_off_before_anything_was_complete_is_asked_for_again(scripted, reply: str) -> None:
    model = scripted([reply, GOOD])
    assert Caller(model).ask(PROMPT, Listed, name="extract") is not None
    assert len(model.prompts) == 2


def test_half_of_what_is_no_list_of_things_is_nothing(scripted) -> None:
    model = scripted([f'{{"reasoning": "tea", "facts": [{ITEM}, ', GOOD])
    assert Caller(model).ask(PROMPT, Facts, name="extract") is not None
    assert len(model.prompts) == 2


def test_a_wrong_item_that_is_not_the_last_is_not_passed_over() -> None:
    assert read(Listed, f'{{"reasoning": "", "facts": [{{"text": "x"}}, {ITEM}')[0] is None


def test_what_cannot_be_mended_is_none(scripted) -> None:
    model = scripted(['{"facts": 3}', "no"])
    assert Caller(model).ask(PROMPT, Facts, name="extract") is None
    assert len(model.prompts) == 2
    assert read(Facts, '{"reasoning": "", "facts": [{"text": "x", "turn": "a"}]}')[1].startswith("In the reply, facts.0.turn is wrong")


def test_nothing_is_sent_that_the_window_or_the_budget_does_not_hold(scripted) -> None:
    caller = Caller(scripted(["ok"], context_length=8))
    with pytest.raises(ContextLengthError, match="summary: the prompt has 11 tokens"):
        caller.say((Message("user", "a b c d e f g h i"),), name="summary")
    model = scripted(["one two three"])
    spent = Caller(model, Meter(budget=Budget(tokens=20)))
    assert spent.say(PROMPT, name="x", max_new_tokens=5) == "one two three"
    assert spent.meter.usage.calls == 1
    assert spent.say(PROMPT, name="x", max_new_tokens=5) is None
    assert "the budget ran out after 1 model calls" in spent.notes
    assert spent.ask(PROMPT, Facts, name="x") is None
    assert len(model.prompts) == 1


def test_room_is_what_a_prompt_may_still_grow_by(scripted) -> None:
    # Two messages of 2 and 4 words, two more tokens each: 10 of 100; 20 for the reply.
    assert Caller(scripted([], context_length=100)).room(PROMPT, 20) == 70
    rough = scripted([], context_length=100)
    rough.exact_counts = False
    assert Caller(rough).room(PROMPT, 20) == 60


def test_a_model_is_loaded_when_it_is_needed_and_not_to_count(scripted) -> None:
    loaded = []
    model = scripted(["ok"])
    caller = Caller(None, load=lambda: loaded.append(1) or model)
    assert caller.count_tokens("x" * 9, 4) == 3
    assert caller.window(8192) == 8192
    assert loaded == []
    assert caller.say(PROMPT, name="x") == "ok"
    assert caller.window(8192) == model.context_length
    with pytest.raises(CapabilityError, match="needs a language model"):
        Caller(None).say(PROMPT, name="x")


def test_a_reply_in_circles_is_ended_and_not_shown_to_the_model_again(scripted) -> None:
    """A string that never closes: no form can be read of it, and asked to mend it the model would go on with it."""
    model = scripted(['{"reasoning": "' + "They are friends and went to a group. " * 40])
    caller = Caller(model)
    assert caller.ask(PROMPT, Facts, name="extract", max_new_tokens=300) is None
    assert len(model.prompts) == 1
    assert caller.meter.generated_tokens < 60


def test_what_a_list_held_before_it_went_in_circles_counts(scripted) -> None:
    class Listed(Items):
        facts: list[Fact]

    same = ", ".join(f'{{"text": "Caroline likes tea and cake", "turn": {n}}}' for n in range(2, 50))
    caller = Caller(scripted(['{"facts": [{"text": "Tom has a dog", "turn": 1}, ' + same]))
    found = caller.ask(PROMPT, Listed, name="extract", max_new_tokens=400)
    assert found is not None
    assert found.facts[0].text == "Tom has a dog"
    assert 1 < len(found.facts) < 10


def test_plain_text_is_never_ended(scripted) -> None:
    verse = " ".join(["Row, row, row your boat gently down the stream."] * 9)
    assert Caller(scripted([verse])).say(PROMPT, name="sing") == verse
