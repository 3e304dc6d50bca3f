"""`llm_map_reduce`: four fields a part, parts without an answer dropped, the last call weighs confidences."""

from __future__ import annotations

import json
import re

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.notes import ANSWER_NOTES_FORM
from baywindow.context.read.llm_map_reduce import CALIBRATION, MAP_SYSTEM, MERGE_SYSTEM, NOTE, LlmMapReduce
from baywindow.context.read.map_reduce import MapReduce
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError


def long_corpus(corpus, lines=40, **said):
    """Forty lines of filler; ``w7="text"`` puts a text in line 7."""
    text = [f"line {i} holds the word w{i} and some more words to fill it" for i in range(lines)]
    for name, line in said.items():
        text[int(name[1:])] = line
    return corpus(book="\n".join(text))


def kind(prompt) -> str:
    system = prompt[0].content
    return "map" if system.startswith(MAP_SYSTEM) else "merge" if system.startswith(MERGE_SYSTEM) else "reduce"


def fields(information, answer, confidence, rationale="it says so") -> str:
    return json.dumps({"information": information, "rationale": rationale, "answer": answer, "confidence": confidence})


def test_each_part_is_read_once_and_the_answer_sees_the_four_fields_by_part(corpus, scripted):
    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "reduce":
            return "It is w7. [8]"
        if "word w7 " in text:
            return fields("w7 is here [8]", "w7", 4)
        if "word w30 " in text:  # a small model's labels instead of JSON, and its confidence out of range
            return "Information: w30 hints at it [31]\nRationale: weak\nAnswer: w30 maybe\nConfidence: 11/10"
        return NOT_FOUND

    model = scripted(reply, context_length=700)
    assert LlmMapReduce(note_tokens=30, max_new_tokens=30).read(Run("where is w7", long_corpus(corpus), model), None) == "It is w7. [8]"
    maps = [p[-1].content for p in model.prompts if kind(p) == "map"]
    for i in range(40):
        assert sum(f"the word w{i} " in text for text in maps) == 1
    one, two = (next(n for n, text in enumerate(maps, 1) if f"word w{i} " in text) for i in (7, 30))
    assert model.prompts[-1][-1].content == (
        f"Notes:\nPart {one} (confidence 4 of 5)\nInformation: w7 is here [8]\nRationale: it says so\nAnswer: w7\n"
        f"Part {two} (confidence 5 of 5)\nInformation: w30 hints at it [31]\nRationale: weak\nAnswer: w30 maybe\n\n"
        f"Question: where is w7\n{ANSWER_NOTES_FORM}"
    )
    assert all(s.json_schema == NOTE.schema for s in model.samplings[:-1])
    assert model.samplings[-1].json_schema is None


def test_the_same_calibration_stands_in_every_prompt_unless_ablated(corpus, scripted):
    for calibrated in (True, False):
        model = scripted(lambda p: fields("a", "b", 3) if kind(p) == "map" else "b", context_length=700)
        LlmMapReduce(calibrated=calibrated).read(Run("q", long_corpus(corpus), model), None)
        assert {(CALIBRATION in p[0].content) for p in model.prompts} == {calibrated}


def test_an_answer_that_mentions_the_marker_in_passing_is_not_lost(corpus, scripted):
    said = "The wreck was not found by anyone before the spring of 1902, says the log."
    model = scripted(lambda p: "1902" if kind(p) == "reduce" else fields("log", said, 5) if "w3 " in p[-1].content else NOT_FOUND)
    LlmMapReduce().read(Run("q", long_corpus(corpus), model), None)
    assert said in model.prompts[-1][-1].content


def test_notes_beyond_one_window_are_merged_into_notes_of_the_same_fields(corpus, scripted):
    def reply(prompt):
        if kind(prompt) == "map":
            return fields("fact " * 40, "answer", 3)
        return fields("merged facts", "merged answer", 4) if kind(prompt) == "merge" else "done"

    model = scripted(reply, context_length=500)
    assert LlmMapReduce(note_tokens=60, max_new_tokens=20).read(Run("q", long_corpus(corpus, 200), model), None) == "done"
    kinds = [kind(p) for p in model.prompts]
    assert kinds[-1] == "reduce"
    assert "merge" in kinds
    last = model.prompts[-1][-1].content
    assert re.search(r"Part 1-\d+ \(confidence 4 of 5\)\nInformation: merged facts", last)


def test_if_no_part_answers_nothing_is_reduced(corpus, scripted):
    model = scripted(lambda p: NOT_FOUND, context_length=700)
    assert LlmMapReduce().read(Run("q", long_corpus(corpus), model), None) == NOT_FOUND
    assert {kind(p) for p in model.prompts} == {"map"}


def test_the_claim_in_miniature_confidence_outweighs_a_majority_that_plain_notes_follow(corpus, scripted):
    book = long_corpus(
        corpus, w2="Some say the bridge is blue", w20="The deed states: bridge painted red", w37="A tale has the bridge blue"
    )

    def weigh(prompt) -> str:
        text = prompt[-1].content
        if "<passage" in text:
            colour = {"deed": ("red", 5), "Some say": ("blue", 2), "A tale": ("blue", 1)}
            for word, (said, sure) in colour.items():
                if word in text:
                    plain = "confidence" not in prompt[0].content.lower()
                    return said if plain else fields(f"the bridge is {said}", said, sure)
            return NOT_FOUND
        if sure := re.findall(r"confidence (\d).*?Answer: (\w+)", text, re.DOTALL):
            return max(sure)[1]
        words = re.findall(r"red|blue", text)
        return max(sorted(set(words)), key=words.count)

    question = "What colour is the bridge?"
    structured = LlmMapReduce(note_tokens=30, max_new_tokens=20, part_tokens=200)
    assert structured.read(Run(question, book, scripted(weigh, context_length=600)), None) == "red"
    assert MapReduce(note_tokens=20, max_new_tokens=20).read(Run(question, book, scripted(weigh, context_length=400)), None) == "blue"


def test_at_the_cap_and_at_the_end_of_the_budget_the_notes_made_by_then_are_answered_from(corpus, scripted):
    def reply(prompt):
        return fields("f", "a", 3) if kind(prompt) == "map" else "the answer"

    model = scripted(reply, context_length=500)
    run = Run("q", long_corpus(corpus), model)
    assert LlmMapReduce(max_calls=3).read(run, None) == "the answer"
    assert [kind(p) for p in model.prompts] == ["map", "map", "reduce"]
    assert any("max_calls=3 was reached" in note for note in run.notes)
    assert any("parts were not read" in note for note in run.notes)
    run = Run("q", long_corpus(corpus), scripted(reply, context_length=500), meter=Meter(budget=Budget(tokens=1200)))
    assert LlmMapReduce().read(run, None) == "the answer"
    assert run.meter.usage.tokens <= 1200


def test_planted_instructions_stay_inside_the_fence(planted, scripted, outside):
    model = scripted(lambda p: fields("Osric", "Osric", 5) if "Osric" in p[-1].content else NOT_FOUND, context_length=700)
    LlmMapReduce().read(Run("Who was the keeper?", planted, model), None)
    assert any("HACKED" in p[-1].content for p in model.prompts)
    assert not any("HACKED" in outside(p) for p in model.prompts)


@pytest.mark.parametrize("option", [{"note_tokens": 1}, {"max_calls": 1}, {"part_tokens": 3}])
def test_errors_name_the_option(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        LlmMapReduce(**option)
