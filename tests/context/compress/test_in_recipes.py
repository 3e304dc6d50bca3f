"""From a recipe to a checked citation: what is shortened is still quoted from the source."""

from __future__ import annotations

import re

import baywindow as bay
from baywindow.documents.base import Document

TEXT = "Boats came in. The pier was closed in 1987. Fish was cheap. Ida painted the pier green. It rained."


def test_a_shortened_passage_is_quoted_from_its_source(scripted) -> None:
    model = scripted(lambda prompt: "It was closed in 1987. [{}]".format(re.findall(r"passage .(\d+)", prompt[-1].content)[-1]))
    answer = bay.ask(
        "When was the pier closed?",
        [Document(TEXT, "log.txt")],
        recipe='extractive(budget_tokens=12, by="words") > stuff',
        model=model,
    )
    shown = model.prompts[-1][-1].content
    assert "The pier was closed in 1987. … Ida painted the pier green." in shown
    assert "Fish was cheap" not in shown
    (citation,) = answer.citations
    assert citation.verified
    assert citation.quote == "The pier was closed in 1987."
    assert TEXT[citation.start : citation.end] == citation.quote
    step = next(step for step in answer.trace.steps if step.name == "extractive")
    assert [(r.fate, r.source) for r in step.regions] == [("compressed", "log.txt")]
    assert any("extractive kept" in note for note in answer.trace.notes)


def test_what_the_window_cannot_show_is_the_least_of_what_was_kept(scripted) -> None:
    """Twelve documents, the answer in the last: more is kept than one prompt holds beside the fences, and the answer is shown."""
    documents = [Document(f"The crew of boat {n} painted its pier green. Wind came from the west.", f"log{n:02}.txt") for n in range(11)]
    documents.append(Document("The pier was closed in 1987. Wind came from the east.", "log99.txt"))
    model = scripted(lambda prompt: "It was closed in 1987. [1]", 160)
    answer = bay.ask(
        "When was the pier closed?", documents, recipe='extractive(budget_tokens=110, by="words") > stuff(max_new_tokens=16)', model=model
    )
    shown = model.prompts[-1][-1].content
    assert any("were left out" in note for note in answer.trace.notes)
    assert "The pier was closed in 1987." in shown
    assert "log10.txt" not in shown


def test_written_text_is_quoted_from_what_it_was_written_from(scripted) -> None:
    def reply(prompt) -> str:
        if "Give the structure" in prompt[0].content:
            return "Scope: the harbour\nPier: 2, 4\nRest: 1, 3, 5"
        return "The pier was closed in 1987. [1]"

    answer = bay.ask("When was the pier closed?", [Document(TEXT, "log.txt")], recipe="struxgpt > stuff", model=scripted(reply))
    (citation,) = answer.citations
    assert citation.verified
    assert TEXT[citation.start : citation.end] == "The pier was closed in 1987."
