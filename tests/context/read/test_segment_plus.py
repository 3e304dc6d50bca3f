"""`segment_plus`: notes of two fields, a filter that drops notes, a merge, and an answer from what is left."""

from __future__ import annotations

import json
import re

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.notes import ANSWER_NOTES_FORM, ANSWER_NOTES_SYSTEM
from baywindow.context.read.segment_plus import FILTER_SYSTEM, FILTER_TASK, GATHER_SYSTEM, MERGE_SYSTEM, NOTE, VERDICT, SegmentPlus
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError

KINDS = {GATHER_SYSTEM: "gather", FILTER_SYSTEM: "filter", MERGE_SYSTEM: "merge", ANSWER_NOTES_SYSTEM: "answer"}


def kind(prompt) -> str:
    return KINDS[prompt[0].content]


def book_of(corpus, lines=40, **said):
    text = [f"line {i} holds the word w{i} and some more words to fill it" for i in range(lines)]
    for name, line in said.items():
        text[int(name[1:])] = line
    return corpus(book="\n".join(text))


def note(evidence, reasoning="it helps") -> str:
    return json.dumps({"evidence": evidence, "reasoning": reasoning})


def test_segments_are_noted_filtered_and_answered_from_in_order(corpus, scripted):
    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "gather":
            found = [f"w{i} is here [{i + 1}]" for i in (5, 20, 35) if f"word w{i} " in text]
            return note(". ".join(found), "so it is there") if found else NOT_FOUND
        if kind(prompt) == "filter":
            return "remove" if "w20" in text else "Keep."
        return "w5 and w35 [6]"

    model = scripted(reply, context_length=500)
    reader = SegmentPlus(segment_tokens=100, note_tokens=30, max_new_tokens=30)
    assert reader.read(Run("which words", book_of(corpus), model), None) == "w5 and w35 [6]"
    gathered = [p[-1].content for p in model.prompts if kind(p) == "gather"]
    for i in range(40):
        assert sum(f"the word w{i} " in text for text in gathered) == 1
    # The filter sees each note alone, and the question, but no text of the segment.
    filters = [p[-1].content for p in model.prompts if kind(p) == "filter"]
    assert filters == [
        f"Question: which words\n\nNote:\nEvidence: w{i} is here [{i + 1}]\nReasoning: so it is there\n\n{FILTER_TASK}" for i in (5, 20, 35)
    ]
    assert model.prompts[-1][-1].content == (
        "Notes:\nEvidence: w5 is here [6]\nReasoning: so it is there\n"
        f"Evidence: w35 is here [36]\nReasoning: so it is there\n\nQuestion: which words\n{ANSWER_NOTES_FORM}"
    )
    schemas = {kind(p): s.json_schema for p, s in zip(model.prompts, model.samplings, strict=True)}
    assert schemas == {"gather": NOTE.schema, "filter": VERDICT.schema, "answer": None}


def test_if_the_filter_removes_all_notes_all_are_used_and_that_is_said(corpus, scripted):
    def reply(prompt):
        return {"gather": note("w1 [2]"), "filter": "remove", "answer": "yes"}[kind(prompt)]

    run = Run("q", book_of(corpus), scripted(reply, context_length=700))
    assert SegmentPlus().read(run, None) == "yes"
    assert "the filter removed every note; all of them were used" in run.notes


def test_a_verdict_that_cannot_be_read_keeps_the_note(corpus, scripted):
    def reply(prompt):
        return {"gather": note("w1 [2]"), "filter": "hmm", "answer": "yes"}.get(KINDS.get(prompt[0].content), "still hmm")

    run = Run("q", book_of(corpus), scripted(reply))
    assert SegmentPlus().read(run, None) == "yes"
    assert run.notes == []


def test_notes_beyond_one_window_are_merged_batch_by_batch(corpus, scripted):
    def reply(prompt):
        if kind(prompt) == "gather":
            return note("fact " * 40 + "[1]")
        return {"merge": note("fewer facts [1]"), "filter": "keep", "answer": "done"}[kind(prompt)]

    model = scripted(reply, context_length=420)
    assert SegmentPlus(note_tokens=50, max_new_tokens=20).read(Run("q", book_of(corpus, 150), model), None) == "done"
    kinds = [kind(p) for p in model.prompts]
    assert "merge" in kinds
    merges = [p[-1].content for p in model.prompts if kind(p) == "merge"]
    assert all(text.startswith("Notes:\nEvidence: ") for text in merges)
    # Each note goes into exactly one merge of the first round.
    assert sum(text.count("Evidence: fact fact") for text in merges) == kinds.count("gather")
    assert "Evidence: fewer facts [1]" in model.prompts[-1][-1].content


def test_the_claim_in_miniature_a_filter_saves_the_answer_from_a_distractor(corpus, scripted):
    book = book_of(corpus, w3="A keeper of bees was called Hugo", w33="The keeper of the lighthouse was called Osric")

    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "gather":
            return note(found[0]) if (found := re.findall(r"[^\n]*keeper[^\n]*", text.partition("Question")[0])) else NOT_FOUND
        if kind(prompt) == "filter":
            return "keep" if "lighthouse" in text.partition("Note:")[2] else "remove"
        return re.findall(r"called (\w+)", text)[0]  # a reader that believes the first name it sees

    def answered(**options) -> str:
        reader = SegmentPlus(segment_tokens=100, note_tokens=30, max_new_tokens=20, **options)
        return reader.read(Run("Who kept the lighthouse?", book, scripted(reply, context_length=500)), None)

    assert answered() == "Osric"
    assert answered(filtered=False) == "Hugo"


def test_at_the_cap_and_at_the_end_of_the_budget_the_notes_made_by_then_are_answered_from(corpus, scripted):
    def reply(prompt):
        return {"gather": note("w1 [2]"), "filter": "keep", "answer": "yes"}[kind(prompt)]

    model = scripted(reply, context_length=500)
    run = Run("q", book_of(corpus), model)
    assert SegmentPlus(max_calls=3).read(run, None) == "yes"
    assert [kind(p) for p in model.prompts] == ["gather", "gather", "answer"]  # without a verdict a note is kept
    assert any("segments were not read" in note for note in run.notes)
    run = Run("q", book_of(corpus), scripted(reply, context_length=500), meter=Meter(budget=Budget(tokens=1200)))
    assert SegmentPlus().read(run, None) == "yes"
    assert run.meter.usage.tokens <= 1200


def test_nothing_noted_means_not_found_without_further_calls(corpus, scripted):
    model = scripted(lambda p: NOT_FOUND, context_length=500)
    assert SegmentPlus().read(Run("q", book_of(corpus), model), None) == NOT_FOUND
    assert {kind(p) for p in model.prompts} == {"gather"}


def test_planted_instructions_stay_inside_the_fence(planted, scripted, outside):
    model = scripted(lambda p: note("Osric [21]") if "Osric" in p[-1].content else NOT_FOUND, context_length=500)
    SegmentPlus().read(Run("Who was the keeper?", planted, model), None)
    assert any("HACKED" in p[-1].content for p in model.prompts)
    assert not any("HACKED" in outside(p) for p in model.prompts)


@pytest.mark.parametrize("option", [{"segment_tokens": 1}, {"note_tokens": 1}, {"max_calls": 1}])
def test_errors_name_the_option(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        SegmentPlus(**option)
