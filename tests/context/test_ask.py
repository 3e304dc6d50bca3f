"""`ask` and `search` end to end with a scripted model: answers, citations, declines, budgets, refusals."""

from __future__ import annotations

import json

import pytest

import baywindow as bay
from baywindow.context.ask import NO_ANSWER_TEXT
from baywindow.context.reply import NOT_FOUND_TEXT
from baywindow.errors import BudgetError, CapabilityError, ConfigError, RecipeError

NOTES = "The beans were sown on 4 May.\n\nThe fence was painted green by Ida in June.\n\nThe roof was mended in 1987."


@pytest.fixture
def notes():
    return [bay.Document(text=NOTES, source="notes.md")]


def test_an_answer_carries_its_citation_its_cost_and_its_trace(notes, scripted):
    events = []
    answer = bay.ask(
        "Who painted the fence?", notes, recipe="full_text(k=3) > stuff", model=scripted(["Ida did. [1]"]), on_event=events.append
    )
    assert (answer.text, answer.found) == ("Ida did. [1]", True)
    (citation,) = answer.citations
    assert citation.verified
    assert NOTES[citation.start : citation.end] == citation.quote
    assert answer.usage.calls == 1
    assert answer.trace.recipe == "full_text(k=3) > stuff"
    assert [step.name for step in answer.trace.steps] == ["full_text", "stuff"]
    assert "".join(e.text for e in events if e.kind == "token") == answer.text
    assert {e.kind for e in events} >= {"token", "passages", "step"}
    assert json.loads(json.dumps(answer.to_dict()))["citations"][0]["source"] == "notes.md"


def test_a_mark_that_was_added_afterwards_is_streamed_too(notes, scripted):
    said = []
    answer = bay.ask(
        "Who painted the fence?",
        notes,
        recipe="stuff",
        model=scripted(["Ida"]),
        on_event=lambda e: said.append(e.text) if e.kind == "token" else None,
    )
    assert answer.text == "Ida [1]"
    assert "".join(said) == "Ida [1]"


def test_a_decline_is_one_plain_sentence_without_citations(notes, scripted):
    said = []
    answer = bay.ask(
        "Who sang?",
        notes,
        recipe="stuff",
        model=scripted(["NOT FOUND"]),
        on_event=lambda e: said.append(e.text) if e.kind == "token" else None,
    )
    assert (answer.text, answer.found, answer.citations) == (NOT_FOUND_TEXT, False, ())
    assert "".join(said) == NOT_FOUND_TEXT


def test_a_budget_below_the_least_possible_cost_is_refused_before_any_call(notes, scripted):
    model = scripted([])
    with pytest.raises(BudgetError, match="the budget is 20"):
        bay.ask("Who painted the fence?", notes, recipe="stuff", model=model, budget="tokens=20")
    assert model.prompts == []


def test_money_needs_prices(notes, scripted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BudgetError, match="needs prices"):
        bay.ask("Who?", notes, recipe="stuff", model=scripted([]), budget="usd=1")
    settings = bay.Settings(prices={"prompt_usd": 1e6, "generated_usd": 0.0})  # a dollar a token
    with pytest.raises(BudgetError, match="USD"):
        bay.ask("Who?", notes, recipe="stuff", model=scripted([]), budget="usd=1", settings=settings)
    answer = bay.ask("Who painted?", notes, recipe="stuff", model=scripted(["Ida [1]"]), budget="usd=1000", settings=settings)
    assert answer.usage.usd == pytest.approx(answer.usage.prompt_tokens)


def test_a_deadline_that_has_passed_points_at_the_nearest_passages(notes, scripted, monkeypatch):
    monkeypatch.setattr("baywindow.budget.Meter.seconds_left", lambda self: 0.0)
    answer = bay.ask("When was the roof mended?", notes, recipe="stuff", model=scripted([]), budget="seconds=1")
    assert answer.text.startswith(NO_ANSWER_TEXT)
    assert answer.citations[0].quote == "The roof was mended in 1987."
    assert not answer.found
    assert any("ran out" in note for note in answer.trace.notes)


def test_an_empty_reply_is_said_and_is_no_answer(notes, scripted):
    answer = bay.ask("Who?", notes, recipe="stuff", model=scripted([""]))
    assert not answer.found
    assert "the model replied with nothing" in answer.trace.notes


def test_refusals_name_what_is_wrong(notes, scripted):
    with pytest.raises(ConfigError, match="question is empty"):
        bay.ask("  ", notes, model=scripted([]))
    with pytest.raises(RecipeError, match="no technique is called 'stuf'") as error:
        bay.ask("Who?", notes, recipe="stuf", model=scripted([]))
    assert "stuff" in error.value.hint
    with pytest.raises(RecipeError, match="retrievers only"):
        bay.search("fence", notes, recipe="stuff")
    with pytest.raises(ConfigError, match="k=0"):
        bay.search("fence", notes, k=0, recipe="full_text")


def test_what_works_inside_a_model_is_refused_for_one_that_is_not_open(notes, scripted):
    pytest.importorskip("torch")
    with pytest.raises(CapabilityError, match="weights"):
        bay.ask("Who?", notes, recipe="snapkv(budget_tokens=256)", model=scripted([]))


def test_search_needs_no_model_and_returns_exact_spans(notes):
    found = bay.search("who painted the fence", notes, recipe="full_text", k=2)
    assert "Ida" in found[0].text
    assert all(NOTES[p.start : p.end] == p.text for p in found)


def test_search_returns_as_many_as_asked_for_even_above_the_technique_s_default(scripted):
    many = [bay.Document(text="\n\n".join(f"Fence number {i} stands in field {i}." * 12 for i in range(60)), source="fences.md")]
    assert len(bay.search("fence", many, recipe="full_text(k=5)", k=30)) == 30


def test_a_configured_recipe_name_is_used(notes, scripted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bay.toml").write_text('recipe = "mine"\n[recipes]\nmine = "full_text(k=1) > rag(k=1)"\n')
    answer = bay.ask("Who painted the fence?", notes, model=scripted(["Ida [1]"]))
    assert answer.trace.recipe == "full_text(k=1) > rag(k=1)"
