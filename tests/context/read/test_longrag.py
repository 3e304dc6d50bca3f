"""`longrag`: a shared thought filters the passages one by one, their surroundings give an extract, the answer sees both."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.read.longrag import ANSWER_BOTH, EXTRACT, KEEP, KEEP_SYSTEM, KEEP_TASK, THINK_SYSTEM, LongRag
from baywindow.context.read.rag import Rag
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError

KINDS = {THINK_SYSTEM: "think", EXTRACT.rules: "extract", KEEP_SYSTEM: "keep", ANSWER_BOTH.rules: "answer"}


def kind(prompt) -> str:
    return next(kind for rules, kind in KINDS.items() if prompt[0].content.startswith(rules))


def shown(prompt) -> list[int]:
    return [int(n) for n in re.findall(r"line (\d+) of", prompt[-1].content)]


@pytest.fixture
def book(corpus):
    return corpus(book="\n".join(f"line {i} of the book holds the word w{i}" for i in range(30)))


@pytest.fixture
def found(book):
    lines = list(book.passages())
    return [lines[20], lines[5], lines[6], lines[27]]


def steady(prompt) -> str:
    if kind(prompt) == "keep":
        return '{"status": true}' if shown(prompt)[0] in (5, 27) else "False"
    return {"think": "w5 leads to w27.", "extract": "Around it w4 and w28. [3]", "answer": "w27 [4]"}[kind(prompt)]


def test_the_calls_and_what_each_sees(book, found, scripted):
    model = scripted(steady)
    run = Run("which word", book, model)
    assert LongRag(parent_tokens=16).read(run, found) == "w27 [4]"
    assert [kind(p) for p in model.prompts] == ["think", "extract", *["keep"] * 4, "answer"]
    think, extract, *keeps, answer = model.prompts
    assert shown(think) == [20, 5, 6, 27]
    # 16 tokens are 64 characters, 32 to each side of lines of 36 to 38: the end of the line before, the beginning of the next one.
    # Lines 5 and 6 share their surroundings.
    assert shown(extract) == [20, 21, 5, 6, 7, 27, 28]
    assert extract[-1].content.count("<passage [") == 3
    assert [shown(p) for p in keeps] == [[20], [5], [6], [27]]
    assert all(p[-1].content.endswith(f"Question: which word\n\nTrain of thought: w5 leads to w27.\n\n{KEEP_TASK}") for p in keeps)
    assert shown(answer) == [5, 27]
    assert answer[-1].content.endswith(f"</passage>\n\nNotes:\nAround it w4 and w28. [3]\n\nQuestion: which word\n{ANSWER_BOTH.form}")
    assert [s.json_schema for s in model.samplings] == [None, None, *[KEEP.schema] * 4, None]


@pytest.mark.parametrize("tokens", [16, 40, 100, 5000])
def test_parents_are_exact_spans_that_hold_their_passages_and_do_not_overlap(book, found, scripted, tokens):
    run = Run("q", book, scripted(steady))
    LongRag(parent_tokens=tokens, filtered=False).read(run, found)
    parents = [p for p in run.numbered.values() if p.key not in {f.key for f in found}]
    assert parents
    for p in parents:
        assert p.text == book.excerpt(p.source, p.start, p.end)
        assert p.line == book.texts["book"].count("\n", 0, p.start) + 1
    for f in found:
        assert sum(p.start <= f.start and f.end <= p.end for p in parents) == 1
    spans = sorted((p.start, p.end) for p in parents)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_a_page_is_not_widened(book, found, scripted):
    run = Run("q", book, scripted(steady))
    paged = [replace(p, line=None, page=3) for p in found]
    LongRag().read(run, paged)
    assert {p.key for p in run.numbered.values()} == {p.key for p in paged}


def test_if_none_is_kept_all_are_used_and_a_missing_verdict_keeps(book, found, scripted):
    for verdict, kept, notes in (("false", [20, 5, 6, 27], 1), ("who knows", [20, 5, 6, 27], 0)):
        model = scripted(lambda p, v=verdict: v if KINDS.get(p[0].content, "keep") == "keep" else steady(p))
        run = Run("q", book, model)
        LongRag().read(run, found)
        assert shown(model.prompts[-1])[: len(kept)] == kept
        assert len(run.notes) == notes


def test_ablations_leave_one_view_out(book, found, scripted):
    for options, kinds in (
        ({"filtered": False}, ["extract", "answer"]),
        ({"extracted": False}, ["think", *["keep"] * 4, "answer"]),
    ):
        model = scripted(steady)
        LongRag(**options).read(Run("q", book, model), found)
        assert [kind(p) for p in model.prompts] == kinds
        assert ("Notes:" in model.prompts[-1][-1].content) is ("extract" in kinds)


def test_only_k_passages_are_taken_and_none_means_not_found_without_a_call(book, found, scripted):
    model = scripted(steady)
    LongRag(k=2).read(Run("q", book, model), found)
    assert shown(model.prompts[0]) == [20, 5]
    model = scripted([])
    assert LongRag().read(Run("q", book, model), []) == NOT_FOUND
    assert model.prompts == []


def test_the_claim_in_miniature_the_filter_drops_the_distractor_and_the_extract_adds_what_stands_beside(corpus, scripted):
    text = [f"line {i} of the log says nothing of use" for i in range(20)]
    text[4], text[5] = "It was painted red by Ida.", "The lighthouse of Arden was built in 1902."
    text[15] = "The lighthouse of Brill was painted blue."
    book = corpus(log="\n".join(text))
    lines = list(book.passages())
    retrieved = [lines[15], lines[5]]

    def reader(prompt) -> str:
        said = prompt[-1].content
        if KINDS.get(prompt[0].content) == "think":
            return "Arden matters, Brill does not."
        if KINDS.get(prompt[0].content) == "keep":
            return "false" if "Brill" in said.partition("Question")[0] else "true"
        if KINDS.get(prompt[0].content) == "extract":
            return "The lighthouse of Arden was painted red." if "Arden was built" in said and "painted red" in said else NOT_FOUND
        return next(iter(re.findall(r"painted (\w+)", said)), NOT_FOUND)  # believes the first colour it sees

    question = "What colour is the lighthouse of Arden?"
    assert LongRag().read(Run(question, book, scripted(reader)), retrieved) == "red"
    assert Rag().read(Run(question, book, scripted(reader)), retrieved) == "blue"


def test_what_does_not_fit_is_left_out_and_counted(corpus, scripted):
    book = corpus(book="\n".join(f"line {i} of the book " + "word " * 40 for i in range(30)))
    model = scripted(steady, context_length=330)
    run = Run("q", book, model)
    LongRag(max_new_tokens=30).read(run, list(book.passages())[:7])
    assert any("passages of the train of thought did not fit" in note for note in run.notes)
    assert any("parents of passages did not fit" in note for note in run.notes)


def test_at_the_cap_and_at_the_end_of_the_budget_it_answers_from_what_there_is(book, found, scripted):
    model = scripted(steady)
    run = Run("q", book, model)
    assert LongRag(max_calls=4).read(run, found) == "w27 [4]"
    assert [kind(p) for p in model.prompts] == ["think", "extract", "keep", "answer"]
    assert shown(model.prompts[-1]) == [5, 6, 27]  # 20 was dropped, the others had no verdict
    assert any("max_calls=4" in note for note in run.notes)
    run = Run("q", book, scripted(steady), meter=Meter(budget=Budget(tokens=700)))
    assert LongRag().read(run, found) == "w27 [4]"
    assert run.meter.usage.tokens <= 700


def test_planted_instructions_stay_inside_the_fence(planted, scripted, outside):
    model = scripted(steady)
    lines = list(planted.passages())
    model = scripted(lambda p: {"keep": "true", "answer": "Osric [2]"}.get(kind(p), "Osric [2]"))
    LongRag().read(Run("Who was the keeper?", planted, model), [lines[11], lines[20]])
    assert any("HACKED" in p[-1].content for p in model.prompts if kind(p) == "extract")
    assert not any("HACKED" in outside(p) for p in model.prompts)


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="parent_tokens"):
        LongRag(parent_tokens=1)
    with pytest.raises(ConfigError, match="filtered and extracted"):
        LongRag(filtered=False, extracted=False)
