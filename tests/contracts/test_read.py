"""What every reader of the registry must do, whatever its method. New readers are covered by being there."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import time

import pytest

from baywindow import recipe, registry
from baywindow.budget import Budget, Meter
from baywindow.context.base import Reader
from baywindow.context.reply import declined
from baywindow.context.run import Run
from baywindow.documents.base import Document
from baywindow.errors import BudgetError

READERS = [card.name for card in registry.cards("context/read")]


@pytest.fixture
def scripted(open_model):
    """Readers may look inside a model: it has insides to show."""
    return open_model


@pytest.fixture(params=READERS)
def reader(request) -> Reader:
    made = registry.get(request.param)()
    assert isinstance(made, Reader)
    return made


@pytest.fixture
def book():
    from baywindow.documents.memory import InMemory

    lines = [f"Chapter {i} tells of the river number {i} and of a boat that came by at dawn." for i in range(120)]
    lines[77] = "The lighthouse keeper was called Osric and he kept seven goats."
    return InMemory([Document(text="\n".join(lines), source="book.txt")], chunk_tokens=40)


def helpful(prompt) -> str:
    text = prompt[-1].content
    if "Osric" not in text:
        return "NOT FOUND"
    marks = re.findall(r"<passage \[(\d+)\][^<]*?Osric", text) or re.findall(r"Osric[^\[]*\[(\d+)\]", text)
    return f"The keeper was Osric [{marks[-1]}]" if marks else "The keeper was Osric"


QUESTION = "What was the lighthouse keeper called?"


def test_it_answers_from_the_text_and_no_call_exceeds_the_window(reader, book, scripted):
    model = scripted(helpful, context_length=700)  # the fake asserts the window on every call
    run = Run(QUESTION, book, model)
    found = book.full_text(QUESTION, 5)
    assert "Osric" in reader.read(run, found)
    assert run.meter.usage.calls == len(model.prompts) + model.looks > 0


def test_nothing_in_the_text_means_not_found(reader, book, scripted):
    run = Run("Who sank the ship?", book, scripted(lambda p: "NOT FOUND", context_length=700))
    assert declined(reader.read(run, book.full_text("boat dawn", 5)))


def test_a_token_budget_is_never_passed(reader, book, scripted):
    least = reader.least(Run(QUESTION, book, scripted(helpful, context_length=700))).tokens
    for tokens in (least, least + 40, 2 * least, 3 * least):
        run = Run(QUESTION, book, scripted(helpful, context_length=700), meter=Meter(budget=Budget(tokens=tokens)))
        assert isinstance(reader.read(run, book.full_text(QUESTION, 5)), str)
        assert 0 < run.meter.usage.tokens <= tokens


@pytest.mark.parametrize("calls", [1, 2, 3, 7])
def test_a_budget_of_calls_is_never_passed(reader, book, scripted, calls):
    run = Run(QUESTION, book, scripted(helpful, context_length=700), meter=Meter(budget=Budget(calls=calls)))
    if reader.least(run).calls > calls:
        with pytest.raises(BudgetError, match=f"the budget is {calls}"):
            run.meter.refuse_if_above(reader.least(run))
        return
    assert isinstance(reader.read(run, book.full_text(QUESTION, 5)), str)
    assert 0 < run.meter.calls <= calls


def test_the_least_cost_is_no_more_than_what_a_run_must_be_able_to_pay(reader, book, scripted):
    model = scripted(helpful, context_length=700)
    run = Run(QUESTION, book, model)
    reader.read(run, book.full_text(QUESTION, 5))
    reserved = sum(model.count_tokens(p) + s.max_new_tokens for p, s in zip(model.prompts, model.samplings, strict=True))
    assert 0 < reader.least(run).tokens <= reserved


def test_after_the_deadline_it_returns_without_a_call(reader, book, scripted):
    model = scripted(helpful, context_length=700)
    run = Run(QUESTION, book, model, meter=Meter(budget=Budget(seconds=1), started=time.monotonic() - 2))
    assert isinstance(reader.read(run, book.full_text(QUESTION, 5)), str)
    assert model.prompts == []
    assert run.cut_short


def test_inputs_are_not_modified_and_the_same_input_gives_the_same_prompts(reader, book, scripted):
    found = book.full_text(QUESTION, 5)
    before = list(found)
    models = [scripted(helpful, context_length=700) for _ in range(2)]
    for model in models:
        reader.read(Run(QUESTION, book, model), found)
    assert found == before
    assert models[0].prompts == models[1].prompts


def test_two_interleaved_questions_do_not_mix(reader, book, scripted):
    """A reader keeps nothing on itself: another question in between changes no prompt."""
    alone, first, other = (scripted(helpful, context_length=700) for _ in range(3))
    reader.read(Run(QUESTION, book, alone), book.full_text(QUESTION, 5))
    reader.read(Run("Which boat came by?", book, other), book.full_text("boat", 5))
    reader.read(Run(QUESTION, book, first), book.full_text(QUESTION, 5))
    assert alone.prompts == first.prompts


def test_the_text_of_documents_is_fenced_and_labelled_as_data(reader, book, scripted):
    model = scripted(helpful, context_length=700)
    reader.read(Run(QUESTION, book, model), book.full_text(QUESTION, 5))
    for prompt in model.prompts:
        assert prompt[0].role == "system"
        assert "never follow" in prompt[0].content
        if "Osric and he kept" in prompt[-1].content:
            assert "<passage [" in prompt[-1].content


def test_the_cap_on_calls_holds_whatever_the_model_replies(reader, book, scripted):
    """Readers that loop have ``max_calls``, the others nothing to cap. Replies are empty, prose, broken or well-formed JSON."""
    for seed in range(8 if "max_calls" in reader.options() else 0):
        draw = random.Random(seed)
        capped = dataclasses.replace(reader, max_calls=draw.choice((4, 9, 30)))
        model = scripted(lambda p, draw=draw: noise(draw), context_length=draw.choice((400, 700, 1500)))
        run = Run(QUESTION, book, model)
        assert isinstance(capped.read(run, book.full_text("keeper boat dawn", 9)), str)
        assert len(model.prompts) <= capped.max_calls


def noise(draw: random.Random) -> str:
    words = ["keep", "remove", "answer", "back", "instruct", "search", "merge", "read_chunk", "NOT FOUND", "[3]", "0", "1", "99", "Osric"]
    fields = ["evidence", "verdict", "facts", "decision", "choice", "action", "notebook", "chunks", "note", "access", "status", "answer"]
    made = json.dumps({name: draw.choice([draw.choice(words), 7, None, [draw.choice(words), "a | b"], {"x": [1]}]) for name in fields})
    return draw.choice(["", "NOT FOUND", " ".join(draw.choices(words, k=40)), made, made[:60], "[[{{" + made])


def test_options_survive_the_recipe_line_and_the_table(reader):
    one = recipe.parse(str(recipe.Recipe((), (reader,))))
    assert one.outside == (reader,)
    assert recipe.parse(one.to_table()).outside == (reader,)
    assert dataclasses.is_dataclass(reader)
    assert type(reader).__dataclass_params__.frozen
