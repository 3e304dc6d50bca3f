"""`lc_boost`: two decisions a step, how to reach the next part and what to do with it."""

from __future__ import annotations

import json
import re

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.notes import ANSWER_NOTES_FORM, ANSWER_NOTES_SYSTEM
from baywindow.context.read.lc_boost import ACCESS, ACCESS_SYSTEM, MERGE_SYSTEM, UTILISE, UTILISE_SYSTEM, LcBoost
from baywindow.context.read.map_reduce import MapReduce
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError

KINDS = {ACCESS_SYSTEM: "access", UTILISE_SYSTEM: "utilise", MERGE_SYSTEM: "merge", ANSWER_NOTES_SYSTEM: "answer"}


def kind(prompt) -> str:
    return KINDS.get(prompt[0].content, "repair")


def seen(prompt) -> list[int]:
    return [int(n) for n in re.findall(r"holds the word w(\d+) ", prompt[-1].content)]


def notes_of(prompt) -> str:
    return re.match(r"Notes: (.*?)\n\n", prompt[-1].content, re.DOTALL)[1]


@pytest.fixture
def book(corpus):
    return corpus(book="\n".join(f"line {i} holds the word w{i} and some more words to fill it" for i in range(40)))


def small(**options) -> LcBoost:
    # Ten lines of 13 words with 7 of fence and separation are one part.
    return LcBoost(**{"part_tokens": 200, "notes_tokens": 60, "max_new_tokens": 30, **options})


def access(how, query="") -> str:
    return json.dumps({"access": how, "query": query})


def use(note, action="append") -> str:
    return json.dumps({"note": note, "action": action})


def test_search_next_append_merge_and_answer_as_the_model_chooses(book, scripted):
    """Parts are lines 0-9, 10-19, 20-29, 30-39. Search w33 → the fourth; next → the first; search w22 → the third; then it answers."""
    accesses = iter([access("search", "w33"), access("next"), access("search", "w22")])
    uses = iter([use("w33 here [34]"), use("w33 and w3 [34] [4]", "merge"), use("w22 too [23]", "answer")])

    def reply(prompt):
        return next(accesses) if kind(prompt) == "access" else next(uses) if kind(prompt) == "utilise" else "done"

    model = scripted(reply, context_length=1200)
    run = Run("q", book, model)
    assert small().read(run, None) == "done"
    assert [kind(p) for p in model.prompts] == [*["access", "utilise"] * 3, "answer"]
    read = [p for p in model.prompts if kind(p) == "utilise"]
    assert [seen(p)[0] for p in read] == [30, 0, 20]
    assert [len(seen(p)) for p in read] == [10, 10, 10]
    assert [notes_of(p) for p in read] == ["(none yet)", "w33 here [34]", "w33 and w3 [34] [4]"]  # merging replaced the note
    assert model.prompts[-1][-1].content == f"Notes:\nw33 and w3 [34] [4]\nw22 too [23]\n\nQuestion: q\n{ANSWER_NOTES_FORM}"
    assert "3 of 4 parts were read; the model chose to answer" in run.notes
    assert [s.json_schema for s in model.samplings] == [*[ACCESS.schema, UTILISE.schema] * 3, None]


def test_a_search_goes_past_parts_that_were_read_and_without_hits_takes_the_next(book, scripted):
    queries = iter([access("search", "w15"), access("search", "w15 w25"), access("search", "nowhere")])
    model = scripted(lambda p: next(queries) if kind(p) == "access" else NOT_FOUND, context_length=1200)
    small().read(Run("q", book, model), None)
    # w15 → part 2; then w25, for part 2 is read; no hit → part 1; the last part needs no decision.
    assert [seen(p)[0] for p in model.prompts if kind(p) == "utilise"] == [10, 20, 0, 30]
    assert kind(model.prompts[-2]) == "utilise"


def test_choices_that_cannot_be_read_search_with_the_question_append_and_read_on(book, scripted):
    def reply(prompt):
        return f"w{seen(prompt)[0]} [1]" if kind(prompt) == "utilise" else "hmm" if kind(prompt) != "answer" else "done"

    model = scripted(reply, context_length=1200)
    assert small().read(Run("Where is w25 ?", book, model), None) == "done"
    assert [seen(p)[0] for p in model.prompts if kind(p) == "utilise"] == [20, 0, 10, 30]
    assert model.prompts[-1][-1].content.startswith("Notes:\nw20 [1]\nw0 [1]\nw10 [1]\nw30 [1]\n")


def test_an_early_answer_without_any_note_reads_on(book, scripted):
    model = scripted(lambda p: {"access": access("next"), "utilise": use("", "answer")}[kind(p)], context_length=1200)
    assert small().read(Run("q", book, model), None) == NOT_FOUND
    assert [kind(p) for p in model.prompts].count("utilise") == 4


def test_notes_that_outgrow_their_room_are_rewritten_shorter(book, scripted):
    def reply(prompt):
        return {"access": access("next"), "utilise": use("many words " * 20 + "[1]"), "merge": "short [1]", "answer": "done"}[kind(prompt)]

    model = scripted(reply, context_length=1200)
    run = Run("q", book, model)
    assert small().read(run, None) == "done"
    assert "merge" in [kind(p) for p in model.prompts]
    assert all(len(notes_of(p).split()) <= 60 for p in model.prompts if kind(p) in ("utilise", "access"))

    model = scripted(lambda p: NOT_FOUND if kind(p) == "merge" else reply(p), context_length=1200)
    run = Run("q", book, model)
    small().read(run, None)
    assert any("notes did not fit and were left out" in note for note in run.notes)


def test_the_claim_in_miniature_it_answers_from_one_part_and_reads_fewer_tokens_than_all_parts(corpus, scripted):
    book = corpus(book="\n".join(f"line {i} holds the word w{i} and some more words to fill it" for i in range(200)))

    def reader(prompt) -> str:
        text = prompt[-1].content
        if kind(prompt) == "access":
            return access("search", "w131")
        if kind(prompt) == "utilise":
            return use("w131 stands in line 131 [132]", "answer") if 131 in seen(prompt) else NOT_FOUND
        if "<passage" in text:
            return "w131 stands in line 131 [132]" if 131 in seen(prompt) else NOT_FOUND
        return "line 131 [132]" if "line 131" in text else NOT_FOUND

    spent = []
    for method in (small(), MapReduce(note_tokens=30, max_new_tokens=30)):
        run = Run("In which line stands w131 ?", book, scripted(reader, context_length=500))
        assert method.read(run, None) == "line 131 [132]"
        spent.append(run.meter.usage.prompt_tokens)
    assert spent[0] < spent[1] / 4


def test_parts_calls_and_budget_are_capped_and_the_notes_are_answered_from(book, scripted):
    def reply(prompt):
        return {"access": access("next"), "utilise": use("a fact [1]"), "answer": "done"}[kind(prompt)]

    run = Run("q", book, scripted(reply, context_length=1200))
    assert small(max_parts=2).read(run, None) == "done"
    assert "2 of 4 parts were read; max_parts=2 was reached" in run.notes
    model = scripted(reply, context_length=1200)
    run = Run("q", book, model)
    assert small(max_calls=4).read(run, None) == "done"
    assert [kind(p) for p in model.prompts] == ["access", "utilise", "access", "answer"]
    assert any("max_calls=4 was reached" in note for note in run.notes)
    run = Run("q", book, scripted(reply, context_length=1200), meter=Meter(budget=Budget(tokens=1300)))
    assert small().read(run, None) == "done"
    assert run.meter.usage.tokens <= 1300


def test_planted_instructions_stay_inside_the_fence(planted, scripted, outside):
    model = scripted(lambda p: {"access": access("next"), "utilise": use("boats"), "answer": "x"}[kind(p)], context_length=700)
    small().read(Run("Who was the keeper?", planted, model), None)
    assert sum("HACKED" in p[-1].content for p in model.prompts) == 1
    assert not any("HACKED" in outside(p) for p in model.prompts)


@pytest.mark.parametrize("option", [{"max_parts": 0}, {"notes_tokens": 1}, {"part_tokens": 1}, {"max_calls": 1}])
def test_errors_name_the_option(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        LcBoost(**option)
