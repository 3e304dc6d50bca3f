"""The three promises of `Run`: the window, the budget, the trace."""

from __future__ import annotations

import pytest

from baywindow.budget import Budget, Meter, Usage
from baywindow.context.reply import declined, may_decline
from baywindow.context.run import Call, Run
from baywindow.errors import CapabilityError, ContextLengthError
from baywindow.models.base import Message


def prompt(words: int):
    return [Message("user", "w " * words)]


def test_a_prompt_beyond_the_window_is_refused_before_the_model_sees_it(garden, scripted):
    model = scripted(["x"], context_length=50)
    with pytest.raises(ContextLengthError, match="60"):
        Run("q", garden, model).call(prompt(58), Call(name="one"))
    assert model.prompts == []


def test_the_answer_shrinks_to_what_the_window_leaves(garden, scripted):
    model = scripted(["a b c d e f g"], context_length=50)
    Run("q", garden, model).call(prompt(43), Call(name="one", max_new_tokens=20))
    assert model.samplings[0].max_new_tokens == 5


def test_a_call_that_the_budget_does_not_allow_is_not_made_and_said(garden, scripted):
    model = scripted(["x", "y"])
    run = Run("q", garden, model, meter=Meter(budget=Budget(tokens=61)))
    assert run.call(prompt(20), Call(name="one", max_new_tokens=20)) == "x"
    assert run.call(prompt(20), Call(name="two", max_new_tokens=20)) == "y"  # a short answer of 16 still fits
    assert model.samplings[1].max_new_tokens == 16
    assert run.call(prompt(20), Call(name="three", max_new_tokens=20)) is None
    assert run.cut_short
    assert "after 2 model calls" in run.notes[0]
    assert run.meter.usage.tokens <= 61


def test_a_call_leaves_what_later_ones_need(garden, scripted):
    model = scripted(["x"])
    run = Run("q", garden, model, meter=Meter(budget=Budget(tokens=100)))
    keep = Usage(calls=1, prompt_tokens=50, generated_tokens=20)
    assert run.call(prompt(28), Call(name="worker", max_new_tokens=20, keep=keep)) is None
    assert run.call(prompt(8), Call(name="worker", max_new_tokens=20, keep=keep)) == "x"


def test_call_many_makes_as_many_calls_as_the_budget_allows(garden, scripted):
    model = scripted(lambda p: "note")
    run = Run("q", garden, model, meter=Meter(budget=Budget(tokens=100)))
    replies = run.call_many([prompt(18)] * 5, Call(name="map", max_new_tokens=10))
    assert replies == ["note", "note", "note", None, None]
    assert len(model.prompts) == 3


def test_after_the_deadline_no_call_starts(garden, scripted, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    model = scripted(["x", "y"])
    run = Run("q", garden, model, meter=Meter(budget=Budget(seconds=10), started=0.0))
    assert run.call(prompt(3), Call(name="one")) == "x"
    now[0] = 10.5
    assert run.call(prompt(3), Call(name="two")) is None
    assert "the time ran out" in run.notes[0]


def test_workers_stop_early_enough_for_the_last_call(garden, scripted, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def slow(p):
        now[0] += 4.0
        return "x"

    run = Run("q", garden, scripted(slow), meter=Meter(budget=Budget(seconds=10), started=0.0))
    worker = Call(name="worker", keep=Usage(calls=1))
    assert run.call(prompt(3), worker) == "x"  # 4 s used, 6 left: a worker and the manager need 8
    assert run.call(prompt(3), worker) is None
    assert run.call(prompt(3), Call(name="manager", final=True)) == "x"


def test_every_call_is_a_step_and_an_event(garden, scripted):
    events = []
    run = Run("q", garden, scripted(["one two three"]), on_event=events.append)
    run.call(prompt(3), Call(name="answer", final=True))
    (step,) = run.steps
    assert (step.name, step.calls, step.tokens_in, step.tokens_out) == ("answer", 1, 5, 3)
    assert "".join(e.text for e in events if e.kind == "token") == "one two three"
    assert [e.step for e in events if e.kind == "step"] == [step]


def test_only_the_final_call_streams_and_a_decline_is_never_shown(garden, scripted):
    said = []
    run = Run(
        "q", garden, scripted(["hidden", "NOT FOUND", "Yes, 42."]), on_event=lambda e: said.append(e.text) if e.kind == "token" else None
    )
    run.call(prompt(3), Call(name="worker"))
    run.call(prompt(3), Call(name="route", final=True, withhold=may_decline))
    assert said == []
    run.call(prompt(3), Call(name="answer", final=True, withhold=may_decline))
    assert "".join(said) == "Yes, 42."


@pytest.mark.parametrize(
    ("text", "is_decline"),
    [
        ("NOT FOUND", True),
        ("Not found.", True),
        ("**not  found**", True),
        ("The passages do not mention a fence.", True),
        ("There is no information about it.", True),
        ("I don't know.", True),
        ("The key was lost and found.", False),
        ("The file is not there, but the fence is green. [1]", False),
        ("Nothing was painted before 1987. [2]", False),
    ],
)
def test_what_counts_as_a_decline(text, is_decline):
    assert declined(text) is is_decline


def test_a_recipe_without_a_model_says_that_it_needs_one(garden):
    with pytest.raises(CapabilityError, match="needs a language model"):
        _ = Run("q", garden).model


def test_an_estimating_model_keeps_a_margin(garden, scripted):
    model = scripted([], context_length=1000)
    run = Run("q", garden, model)
    assert run.room(100, 100) == 800
    model.exact_counts = False
    assert run.room(100, 100) == 700


def test_examples_are_shown_to_a_base_model_only_if_the_token_budget_has_room_for_them(garden, scripted):
    example = ("an example question of eight words or so", "its answer")

    class Base(scripted):
        def prompt_tokens(self, asked, sampling):
            return self.count_tokens(asked) + sum(len(a.split()) + len(b.split()) for a, b in sampling.examples)

    how = Call(name="one", max_new_tokens=20, examples=(example,))
    for tokens, shown in ((42 + 9, ()), (42 + 10, (example,)), (None, (example,))):
        model = Base(["x"])
        assert Run("q", garden, model, meter=Meter(budget=Budget(tokens=tokens))).call(prompt(20), how) == "x"
        assert model.samplings[0].examples == shown


def test_what_happened_inside_the_model_is_in_every_step_and_noted_for_the_answer(garden, scripted):
    class Inside(scripted):
        def remark(self):
            return f"kept {len(self.prompts)} of 9"

    run = Run("q", garden, Inside(["x", "y"]))
    run.call(prompt(3), Call(name="worker"))
    run.call(prompt(3), Call(name="answer", final=True))
    assert [step.note for step in run.steps] == ["kept 1 of 9", "kept 2 of 9"]
    assert run.notes == ["kept 2 of 9"]
