"""`alr2`: facts are copied out first; the reasoning sees the facts and never the text."""

from __future__ import annotations

import json
import re

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.notes import ANSWER_NOTES_FORM
from baywindow.context.read.alr2 import FACTS, REASON_SYSTEM, RETRIEVE_SYSTEM, Alr2, stands_in, training_pairs
from baywindow.context.read.stuff import Stuff
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError

QUESTION = "Where does the sister of Ada live?"


def story(corpus, lines=60):
    text = [f"filler line {i} says nothing of use at all today" for i in range(lines)]
    text[3], text[55] = "Ada has a sister called Bo", "Bo lives in Oslo by the sea"
    return corpus(story="\n".join(text))


def facts(*found) -> str:
    return json.dumps({"facts": list(found)})


def honest(prompt) -> str:
    """Copies what it sees, reasons from what it is given."""
    text = prompt[-1].content
    if prompt[0].content == RETRIEVE_SYSTEM:
        found = re.findall(r"Ada has a sister called Bo|Bo lives in Oslo by the sea", text)
        return facts(*found) if found else NOT_FOUND
    return "Oslo" if "sister called Bo" in text and "Bo lives in Oslo" in text else NOT_FOUND


def test_the_second_call_sees_facts_with_their_marks_and_not_the_text(corpus, scripted):
    model = scripted(honest, context_length=400)
    run = Run(QUESTION, story(corpus), model)
    assert Alr2(evidence_tokens=40, max_new_tokens=40).read(run, None) == "Oslo"
    # Lines 3 and 55 are passages 4 and 56 of the reading order; the model wrote no marks.
    assert model.prompts[-1][0].content == REASON_SYSTEM
    assert model.prompts[-1][-1].content == (
        f"Notes:\nAda has a sister called Bo [4]\nBo lives in Oslo by the sea [56]\n\nQuestion: {QUESTION}\n{ANSWER_NOTES_FORM}"
    )
    retrieved = [p[-1].content for p in model.prompts[:-1]]
    assert {p[0].content for p in model.prompts[:-1]} == {RETRIEVE_SYSTEM}
    for i in range(60):
        if i not in (3, 55):
            assert sum(f"filler line {i} " in text for text in retrieved) == 1
    assert "2 of 2 retrieved facts stand in the text word for word" in run.notes
    assert [s.json_schema for s in model.samplings] == [FACTS.schema] * (len(model.prompts) - 1) + [None]


def test_a_text_that_fits_is_read_in_one_call(corpus, scripted):
    model = scripted(honest)
    assert Alr2().read(Run(QUESTION, story(corpus), model), None) == "Oslo"
    assert len(model.prompts) == 2


@pytest.mark.parametrize("found_only", [False, True])
def test_invented_facts_are_counted_and_dropped_if_asked(corpus, scripted, found_only):
    def reply(prompt):
        if prompt[0].content == RETRIEVE_SYSTEM:
            return facts("Ada has a SISTER, called Bo! [4]", "Ada was born in Rome [4]")
        return "done"

    model = scripted(reply)
    run = Run(QUESTION, story(corpus), model)
    Alr2(found_only=found_only).read(run, None)
    assert "1 of 2 retrieved facts stand in the text word for word" in run.notes
    last = model.prompts[-1][-1].content
    assert "SISTER" in last
    assert ("Rome" in last) is not found_only


def test_if_every_fact_is_invented_they_are_still_reasoned_from(corpus, scripted):
    model = scripted([facts("Ada was born in Rome [4]"), "Rome"])
    assert Alr2(found_only=True).read(Run(QUESTION, story(corpus), model), None) == "Rome"


@pytest.mark.parametrize(
    ("fact", "there"),
    [("the beans WERE sown\non 4 May. [1]", True), ("beans sown on 4 May", False), ("ean", False), ("[1]", False), ("", False)],
)
def test_word_for_word_means_these_words_in_this_order(garden, fact, there):
    assert stands_in(fact, list(garden.passages())) is there


def test_the_claim_in_miniature_two_hops_are_joined_where_a_direct_answer_sees_half(corpus, scripted):
    book = story(corpus)
    assert Alr2(evidence_tokens=40, max_new_tokens=40).read(Run(QUESTION, book, scripted(honest, context_length=400)), None) == "Oslo"
    assert Stuff(max_new_tokens=40).read(Run(QUESTION, book, scripted(honest, context_length=400)), None) == NOT_FOUND


def test_training_pairs_are_the_prompts_of_a_run_with_gold_targets(corpus, scripted):
    book = story(corpus, lines=56)
    gold = ["Ada has a sister called Bo [4]", "Bo lives in Oslo by the sea [56]"]
    model = scripted([facts(*gold), "Oslo"])
    Alr2().read(Run(QUESTION, book, model), None)
    retrieve, reason = training_pairs(Run(QUESTION, book, model), list(book.passages()), gold, "Oslo")
    assert (list(retrieve[0]), list(reason[0])) == tuple(model.prompts)
    assert (FACTS.read(retrieve[1]).texts("facts"), reason[1]) == (gold, "Oslo")


def test_at_the_cap_and_at_the_end_of_the_budget_the_facts_found_by_then_are_used(corpus, scripted):
    def reply(prompt):
        return facts("filler [1]") if prompt[0].content == RETRIEVE_SYSTEM else "x"

    model = scripted(reply, context_length=400)
    run = Run("q", story(corpus), model)
    assert Alr2(max_calls=3).read(run, None) == "x"
    assert len(model.prompts) == 3
    assert any("max_calls=3" in note for note in run.notes)
    run = Run("q", story(corpus), scripted(reply, context_length=400), meter=Meter(budget=Budget(tokens=900)))
    assert Alr2().read(run, None) == "x"
    assert run.meter.usage.tokens <= 900


def test_planted_instructions_stay_inside_the_fence(planted, scripted, outside):
    model = scripted(lambda p: facts("Osric [21]") if "Osric" in p[-1].content else NOT_FOUND, context_length=500)
    Alr2().read(Run("Who was the keeper?", planted, model), None)
    assert any("HACKED" in p[-1].content for p in model.prompts)
    assert not any("HACKED" in outside(p) for p in model.prompts)


@pytest.mark.parametrize("option", [{"evidence_tokens": 1}, {"max_calls": 1}, {"part_tokens": 1}])
def test_errors_name_the_option(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        Alr2(**option)
