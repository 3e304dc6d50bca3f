"""`map_reduce`: every part is read once, notes without content are dropped, many notes are condensed first."""

from __future__ import annotations

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.read.map_reduce import CONDENSE_SYSTEM, MAP, MapReduce
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError


def long_corpus(corpus, lines=40):
    return corpus(book="\n".join(f"line {i} holds the word w{i} and some more words to fill it" for i in range(lines)))


def kind(prompt) -> str:
    if prompt[0].content.startswith(MAP.rules):
        return "map"
    return "condense" if prompt[0].content == CONDENSE_SYSTEM else "reduce"


def test_every_passage_reaches_exactly_one_map_call_and_the_answer_sees_only_notes(corpus, scripted):
    book = long_corpus(corpus)

    def reply(prompt):
        if kind(prompt) == "map":
            return "w7 is here [8]" if "word w7 " in prompt[-1].content else NOT_FOUND
        return "It is w7. [8]"

    model = scripted(reply, context_length=400)
    run = Run("where is w7", book, model)
    assert MapReduce(note_tokens=20, max_new_tokens=20).read(run, None) == "It is w7. [8]"
    maps = [p[-1].content for p in model.prompts if kind(p) == "map"]
    assert len(maps) > 2
    for i in range(40):
        assert sum(f"the word w{i} " in text for text in maps) == 1
    last = model.prompts[-1][-1].content
    assert last.startswith("Notes:\nw7 is here [8]\n\nQuestion:")
    assert kind(model.prompts[-1]) == "reduce"


def test_notes_that_do_not_fit_are_condensed_until_they_do(corpus, scripted):
    book = long_corpus(corpus, 200)

    def reply(prompt):
        return "fact " * 60 if kind(prompt) == "map" else "short fact" if kind(prompt) == "condense" else "answer"

    model = scripted(reply, context_length=330)
    assert MapReduce(note_tokens=64, max_new_tokens=16).read(Run("q", book, model), None) == "answer"
    kinds = [kind(p) for p in model.prompts]
    assert "condense" in kinds
    assert kinds[-1] == "reduce"


def test_nothing_noted_means_not_found_without_a_last_call(corpus, scripted):
    model = scripted(lambda p: NOT_FOUND, context_length=400)
    assert MapReduce(note_tokens=16).read(Run("q", long_corpus(corpus), model), None) == NOT_FOUND
    assert {kind(p) for p in model.prompts} == {"map"}


def test_when_the_budget_ends_the_notes_made_by_then_are_answered_from(corpus, scripted):
    model = scripted(lambda p: "a note [1]" if kind(p) == "map" else "the answer", context_length=400)
    run = Run("q", long_corpus(corpus), model, meter=Meter(budget=Budget(tokens=1000)))
    assert MapReduce(note_tokens=16, max_new_tokens=16).read(run, None) == "the answer"
    assert run.meter.usage.tokens <= 1000
    assert any("parts were not read" in note for note in run.notes)


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="note_tokens"):
        MapReduce(note_tokens=1)
