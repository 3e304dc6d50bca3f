"""`sift`: what the facts alone and the whole text agree on; else repair, invert, and in the end the text alone."""

from __future__ import annotations

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.notes import ANSWER_NOTES_SYSTEM
from baywindow.context.read.sift import FORWARD_SYSTEM, INVERSE_SYSTEM, STICKER_SYSTEM, Sift, agree
from baywindow.context.reply import ANSWER, NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError

QUESTION = "When was the roof mended?"


def role(prompt) -> str:
    system = prompt[0].content
    if system.startswith(ANSWER.rules):
        return "both" if "\n\nFacts:\n" in prompt[-1].content else "text"
    return {STICKER_SYSTEM: "sticker", FORWARD_SYSTEM: "forward", INVERSE_SYSTEM: "inverse", ANSWER_NOTES_SYSTEM: "alone"}[system]


def replying(scripted, replies: dict[str, list[str]], **options):
    left = {name: list(texts) for name, texts in replies.items()}
    return scripted(lambda p: left[role(p)].pop(0), **options)


def roles(model) -> list[str]:
    return [role(p) for p in model.prompts]


def test_agreement_at_once_takes_three_calls(garden, scripted):
    model = replying(scripted, {"sticker": ["1. roof mended 1987 [5]"], "alone": ["1987"], "both": ["In 1987. [5]"]})
    assert Sift().read(Run(QUESTION, garden, model), None) == "In 1987. [5]"
    assert roles(model) == ["sticker", "alone", "both"]
    assert "<passage" not in model.prompts[1][-1].content  # the sticker alone
    assert "1. roof mended 1987 [5]" in model.prompts[1][-1].content
    assert model.prompts[2][-1].content.count("<passage [") == 5


def test_forward_repair_sees_the_text_and_is_tested_again(garden, scripted):
    model = replying(
        scripted, {"sticker": ["1. roof 1978"], "alone": ["1978", "1987"], "both": ["1987", "1987"], "forward": ["1. roof 1987"]}
    )
    assert Sift().read(Run(QUESTION, garden, model), None) == "1987"
    assert roles(model) == ["sticker", "alone", "both", "forward", "alone", "both"]
    forward = model.prompts[3][-1].content
    assert "1. roof 1978" in forward
    assert "The roof was mended in 1987." in forward


def test_inverse_sees_the_reasoning_and_not_the_text_and_then_the_text_alone_decides(garden, scripted):
    model = replying(
        scripted,
        {
            "sticker": ["s1"],
            "forward": ["s2", "s4"],
            "inverse": ["s3"],
            "alone": ["1978", "1978", "1978"],
            "both": ["1987", "1987", "1987"],
            "text": ["In 1987. [5]"],
        },
    )
    assert Sift().read(Run(QUESTION, garden, model), None) == "In 1987. [5]"
    assert roles(model) == ["sticker", "alone", "both", "forward", "alone", "both", "inverse", "forward", "alone", "both", "text"]
    assert len(model.prompts) == 11
    inverse = model.prompts[6][-1].content
    assert "<passage" not in inverse
    assert "1987" in inverse
    assert "s2" in inverse


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Osric", "The keeper was Osric. [3]", True),
        ("1,200 goats", "There were 1200 goats", True),
        ("In 1987.", "In 1978.", False),
        ("7 goats", "Osric had goats", False),  # a number on one side only
        (NOT_FOUND, NOT_FOUND, False),  # two failures are no agreement
        ("", "", False),
        ("[1]", "[1]", False),
        ("Ada", "Bo", False),
    ],
)
def test_agreement(one, other, same):
    assert agree(one, other) is same
    assert agree(other, one) is same


def test_a_sticker_without_facts_leaves_the_text_alone(garden, scripted):
    model = replying(scripted, {"sticker": [NOT_FOUND], "text": [NOT_FOUND]})
    assert Sift().read(Run("Who sank the ship?", garden, model), None) == NOT_FOUND
    assert roles(model) == ["sticker", "text"]


def test_when_the_budget_ends_the_text_alone_is_answered_from(garden, scripted):
    model = scripted(lambda p: "In 1987. [5]" if role(p) == "text" else "1. a fact of many words that costs")
    run = Run(QUESTION, garden, model, meter=Meter(budget=Budget(tokens=330)))
    assert Sift(sticker_tokens=32, max_new_tokens=32).read(run, None) == "In 1987. [5]"
    assert run.meter.usage.tokens <= 330


def test_the_claim_in_miniature_agreeing_answers_are_the_right_ones(corpus, scripted):
    """A careless reader that takes a wrong number from the text whenever the facts before it do not hold the right one."""
    book = corpus(book="The pier is 30 m long\nThe boat is 12 m long\nThe crane is 45 m high")

    def careless(prompt) -> str:
        facts = prompt[-1].content.rpartition("Facts:\n")[2] if role(prompt) in ("both", "forward") else prompt[-1].content
        if role(prompt) == "sticker":
            return "1. The boat is 30 m long [2]"  # a slip
        if role(prompt) == "forward":
            return "1. The boat is 12 m long [2]"
        return "12 m" if role(prompt) == "both" or "12 m" in facts else "30 m"

    assert Sift().read(Run("How long is the boat?", book, scripted(careless)), None) == "12 m"


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="sticker_tokens"):
        Sift(sticker_tokens=2)
