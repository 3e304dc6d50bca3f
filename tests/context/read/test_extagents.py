"""`extagents`: parallel agents, a ladder of the best findings, and further rounds in which agents see all findings."""

from __future__ import annotations

import re

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.read.extagents import AGAIN, EXTRACT, LAST_SYSTEM, REASON_SYSTEM, SCORE_SYSTEM, ExtAgents
from baywindow.context.read.map_reduce import MapReduce
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError

KINDS = {EXTRACT.rules: "extract", AGAIN.rules: "again", SCORE_SYSTEM: "score", REASON_SYSTEM: "reason", LAST_SYSTEM: "last"}


def kind(prompt) -> str:
    return next(kind for rules, kind in KINDS.items() if prompt[0].content.startswith(rules))


def book_of(corpus, lines=50, **said):
    text = [f"line {i} holds the word w{i} and some more words to fill it" for i in range(lines)]
    for name, line in said.items():
        text[int(name[1:])] = line
    return corpus(book="\n".join(text))


def first_line(text) -> str:
    """The number of the first line that a prompt shows."""
    return re.search(r"word w(\d+) ", text)[1]


def findings(prompt) -> list[str]:
    return prompt[-1].content.partition("Notes:\n")[2].partition("\n\nQuestion:")[0].split("\n")


def small(**options) -> ExtAgents:
    return ExtAgents(**{"part_tokens": 130, "note_tokens": 30, "max_new_tokens": 30, **options})


def test_the_reasoner_is_shown_the_best_1_2_4_and_all_findings_until_it_answers(corpus, scripted):
    """Five agents find something, scored 10, 50, 30, 90, 70: best first that is parts 4, 5, 2, 3, 1."""
    scores = {"f0": 10, "f10": 50, "f20": 30, "f30": 90, "f40": 70}

    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "extract":
            return f"f{first_line(text)} [1]"
        if kind(prompt) == "score":
            return f"I give it {scores[re.search(r'f[0-9]+', text)[0]]} points"
        return "the answer" if len(findings(prompt)) == 5 else NOT_FOUND

    model = scripted(reply, context_length=1000)
    run = Run("q", book_of(corpus), model)
    reader = small(part_tokens=10 * 20)  # a line of 13 words with 7 of fence and separation: ten lines a part
    assert reader.read(run, None) == "the answer"
    assert [kind(p) for p in model.prompts] == ["extract"] * 5 + ["score"] * 5 + ["reason"] * 4
    best = ["f30 [1]", "f40 [1]", "f10 [1]", "f20 [1]", "f0 [1]"]
    assert [findings(p) for p in model.prompts[-4:]] == [best[:1], best[:2], best[:4], best]


def test_retrieved_passages_keep_their_order_and_are_not_scored(corpus, scripted):
    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "extract":
            return f"f{first_line(text)} [1]"
        return NOT_FOUND if len(findings(prompt)) < 2 else "done"

    book = book_of(corpus)
    model = scripted(reply, context_length=1000)
    assert small(part_tokens=64).read(Run("q", book, model), list(book.passages())[::-1][:6]) == "done"
    assert "score" not in map(kind, model.prompts)
    assert findings(model.prompts[-1]) == ["f49 [1]", "f46 [1]"]  # three lines a part, the given order


def test_a_second_round_gives_every_agent_all_findings_and_adds_only_what_is_new(corpus, scripted):
    def reply(prompt):
        text = prompt[-1].content
        if kind(prompt) == "extract":
            return "alpha [3]" if "word w2 " in text else NOT_FOUND
        if kind(prompt) == "again":
            return "beta [31]" if "word w30 " in text else "alpha [3]" if "word w2 " in text else NOT_FOUND
        return "both" if "beta" in text else NOT_FOUND

    model = scripted(reply, context_length=600)
    assert small(scored=False).read(Run("q", book_of(corpus), model), None) == "both"
    again = [p[-1].content for p in model.prompts if kind(p) == "again"]
    assert again
    assert all(text.startswith("Findings so far:\nalpha [3]\n\n<passage") for text in again)
    for i in range(50):
        assert sum(f"the word w{i} " in text for text in again) == 1
    assert findings(model.prompts[-1]) == ["alpha [3]", "beta [31]"]  # alpha was known and is not repeated


def test_it_ends_when_a_round_adds_nothing_and_when_rounds_are_used_up(corpus, scripted):
    def stuck(prompt):
        return "alpha [3]" if kind(prompt) == "extract" and "word w2 " in prompt[-1].content else NOT_FOUND

    model = scripted(stuck, context_length=600)
    assert small(scored=False).read(Run("q", book_of(corpus), model), None) == NOT_FOUND
    assert [kind(p) for p in model.prompts].count("reason") == 1  # the second round added nothing

    counter = iter(range(1000))
    model = scripted(lambda p: f"new {next(counter)} [3]" if kind(p) in ("extract", "again") else NOT_FOUND, context_length=600)
    assert small(scored=False, rounds=3).read(Run("q", book_of(corpus, 12), model), None) == NOT_FOUND
    assert [kind(p) for p in model.prompts if kind(p) in ("extract", "again")] == ["extract"] * 2 + ["again"] * 4


@pytest.mark.parametrize("must", [True, False])
def test_the_last_round_may_decline_unless_an_answer_is_asked_for(corpus, scripted, must):
    counter = iter(range(1000))

    def reply(prompt):
        return "a guess" if kind(prompt) == "last" else NOT_FOUND if kind(prompt) == "reason" else f"new {next(counter)} [3]"

    model = scripted(reply, context_length=600)
    got = small(scored=False, rounds=2, must_answer=must).read(Run("q", book_of(corpus, 12), model), None)
    assert got == ("a guess" if must else NOT_FOUND)


def test_nothing_extracted_means_not_found_without_a_reasoner(corpus, scripted):
    model = scripted(lambda p: NOT_FOUND, context_length=600)
    assert small().read(Run("q", book_of(corpus), model), None) == NOT_FOUND
    assert {kind(p) for p in model.prompts} == {"extract"}


def test_the_claim_in_miniature_a_fact_that_only_another_finding_makes_useful_is_found(corpus, scripted):
    book = book_of(corpus, w3="Ada has a sister called Bo", w45="Bo lives in Oslo by the sea")
    question = "Where does the sister of Ada live?"

    def agent(prompt) -> str:
        """Extracts a line only if it shares a name with the question or with the findings."""
        text = prompt[-1].content
        if "<passage" not in text:
            return "Oslo" if "sister called Bo" in text and "Oslo" in text else NOT_FOUND
        known = question + text.partition("<passage")[0]
        names = {name for name in ("Ada", "Bo") if re.search(rf"\b{name}\b", known)}
        lines = re.findall(r"Ada has a sister called Bo|Bo lives in Oslo by the sea", text.partition("<passage")[2])
        return ". ".join(line for line in lines if names & set(line.split())) or NOT_FOUND

    def asked(reader, window) -> str:
        return reader.read(Run(question, book, scripted(agent, context_length=window)), None)

    assert asked(small(scored=False), 600) == "Oslo"
    assert asked(MapReduce(note_tokens=30, max_new_tokens=30), 400) == NOT_FOUND


def test_findings_beyond_the_window_are_left_out_from_the_end_and_counted(corpus, scripted):
    counter = iter(range(1000))

    def reply(prompt):
        return f"f{next(counter)} " + "many words " * 20 if kind(prompt) == "extract" else NOT_FOUND

    run = Run("q", book_of(corpus, 150), scripted(reply, context_length=420))
    small(scored=False, rounds=1, note_tokens=40).read(run, None)
    assert any("findings did not fit and were left out" in note for note in run.notes)


def test_at_the_cap_and_at_the_end_of_the_budget_it_answers_from_the_findings(corpus, scripted):
    def reply(prompt):
        return "f [1]" if kind(prompt) == "extract" else "yes"

    model = scripted(reply, context_length=600)
    run = Run("q", book_of(corpus), model)
    assert small(max_calls=3).read(run, None) == "yes"
    assert [kind(p) for p in model.prompts] == ["extract", "extract", "reason"]
    assert any("max_calls=3" in note for note in run.notes)
    run = Run("q", book_of(corpus), scripted(reply, context_length=600), meter=Meter(budget=Budget(tokens=1000)))
    assert small().read(run, None) == "yes"
    assert run.meter.usage.tokens <= 1000


def test_only_a_reply_that_does_not_decline_is_streamed(corpus, scripted):
    heard: list[str] = []

    def reply(prompt):
        if kind(prompt) == "extract":
            return f"the part from line {first_line(prompt[-1].content)} [1]"
        return NOT_FOUND if len(findings(prompt)) == 1 else "the keeper was Osric"

    run = Run(
        "q", book_of(corpus), scripted(reply, context_length=600), on_event=lambda e: heard.append(e.text if e.kind == "token" else "")
    )
    assert small(scored=False).read(run, None) == "the keeper was Osric"
    assert "".join(heard) == "the keeper was Osric"


def test_planted_instructions_stay_inside_the_fence(planted, scripted, outside):
    model = scripted(lambda p: "Osric [21]" if kind(p) == "extract" and "Osric" in p[-1].content else NOT_FOUND, context_length=500)
    small(scored=False).read(Run("Who was the keeper?", planted, model), None)
    assert {"extract", "again"} <= set(map(kind, model.prompts))
    assert any("HACKED" in p[-1].content for p in model.prompts)
    assert not any("HACKED" in outside(p) for p in model.prompts)


@pytest.mark.parametrize("option", [{"rounds": 0}, {"note_tokens": 1}, {"max_calls": 1}, {"part_tokens": 1}])
def test_errors_name_the_option(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        ExtAgents(**option)
