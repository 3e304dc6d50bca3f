"""The examples that base models are shown must be replies that we would accept, and about nothing that a prompt could leak as a fact."""

from __future__ import annotations

import pytest

from baywindow.memory import cipher, k_lamp, sculptor, standing_instructions, statler, summaries
from baywindow.memory.calls import read
from baywindow.memory.mem0 import Mem0, decide, facts, graph
from baywindow.memory.memgas.describe import FILTER_EXAMPLES, KEYWORD_EXAMPLES, Helpful, Keywords
from baywindow.memory.sculptor import answering

from .talking import Talk, by_rules

SHOWN = [
    (facts.EXAMPLES, facts.Facts),
    (decide.EXAMPLES, decide.Choice),
    (graph.EXAMPLES, graph.Edges),
    (graph.CONFLICT_EXAMPLES, graph.Conflict),
    (summaries.EXAMPLES, summaries.Summary),
    (KEYWORD_EXAMPLES, Keywords),
    (FILTER_EXAMPLES, Helpful),
    (cipher.EXAMPLES, cipher.Preference),
    (standing_instructions.FIND_EXAMPLES, standing_instructions.Quotes),
    (standing_instructions.REPLACE_EXAMPLES, standing_instructions.Replaced),
    (standing_instructions.SELECT_EXAMPLES, standing_instructions.Selected),
    (statler.READ_EXAMPLES, statler.Changes),
    (statler.WRITE_EXAMPLES, statler.Written),
    (statler.ANSWER_EXAMPLES, statler.Answer),
    (k_lamp.FIND_EXAMPLES, k_lamp.Things),
    (k_lamp.SUGGEST_EXAMPLES, k_lamp.Suggestions),
    (sculptor.EXAMPLES, sculptor.Tidied),
    (answering.EXAMPLES, answering.Tool),
]


@pytest.mark.parametrize(("examples", "form"), SHOWN, ids=lambda value: getattr(value, "__name__", ""))
def test_every_example_is_a_reply_in_its_form_with_its_reasoning_first(examples, form):
    for _, reply in examples:
        found, wrong = read(form, reply)
        assert found is not None, wrong
    assert next(iter(form.model_fields)) == "reasoning"


def test_an_example_that_a_model_copies_is_refused_as_a_fact(scripted):
    copied = facts.EXAMPLES[-1][1]
    talk = Talk(Mem0(summary_every=0), scripted(by_rules({facts.SYSTEM: copied})))
    talk.add("I live in Rome.")
    assert talk.texts("fact") == []
    assert talk.texts() == ["Anna: I live in Rome."]
