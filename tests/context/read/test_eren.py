"""`eren`: notes where they apply, the model's own knowledge where they do not."""

from __future__ import annotations

import pytest

from baywindow.context.ask import ask
from baywindow.context.read.eren import CLOSED_BOOK_SYSTEM, Eren
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.documents.base import Document
from baywindow.errors import ConfigError


def editor(prompt) -> str:
    """Knows one fact by itself (the capital), reads the others; a note on the capital overrides it."""
    text = prompt[-1].content
    if "roof" in text.rpartition("Question:")[2]:
        return "In 1987. [1]" if "roof was mended" in text else NOT_FOUND
    if "capital" in text.rpartition("Question:")[2]:
        if "The capital is Elm" in text:
            return "Elm. [1]"
        return "Oslo." if prompt[0].content == CLOSED_BOOK_SYSTEM else NOT_FOUND
    return NOT_FOUND


def test_a_note_that_applies_is_answered_from_in_one_call(garden, scripted):
    model = scripted(editor)
    found = garden.full_text("roof mended", 2)
    assert Eren().read(Run("When was the roof mended?", garden, model), found) == "In 1987. [1]"
    assert len(model.prompts) == 1


def test_the_claim_in_miniature_an_edit_is_used_and_an_unrelated_answer_is_preserved(garden, corpus, scripted):
    question = "What is the capital?"
    edited = corpus(notes="The capital is Elm\nThe roof was mended in 1987.")
    assert Eren().read(Run(question, edited, scripted(editor)), list(edited.passages())) == "Elm. [1]"
    model = scripted(editor)
    run = Run(question, garden, model)
    assert Eren().read(run, list(garden.passages())) == "Oslo."
    assert [p[0].content == CLOSED_BOOK_SYSTEM for p in model.prompts] == [False, True]
    assert "<passage" not in model.prompts[1][-1].content
    assert any("own knowledge" in note for note in run.notes)


def test_an_answer_from_memory_cites_nothing(scripted):
    answer = ask(
        "What is the capital?",
        [Document(text="Capital flows to Oslo these days.", source="a.txt")],
        recipe="full_text > eren",
        model=scripted(editor),
    )
    assert answer.text == "Oslo."
    assert answer.citations == ()


def test_only_k_notes_are_shown(garden, scripted):
    model = scripted(editor)
    Eren(k=2).read(Run("When was the roof mended?", garden, model), list(garden.passages()))
    assert model.prompts[0][-1].content.count("<passage [") == 2


def test_what_neither_knows_is_not_found(garden, scripted):
    model = scripted(editor)
    assert Eren().read(Run("Who sank the ship?", garden, model), list(garden.passages())) == NOT_FOUND
    assert len(model.prompts) == 2


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="k"):
        Eren(k=0)
