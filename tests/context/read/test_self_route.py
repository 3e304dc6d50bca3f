"""`self_route`: the passages first; the long text only for what they do not answer."""

from __future__ import annotations

import pytest

from baywindow.context.read.self_route import SelfRoute
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import ConfigError


@pytest.fixture(autouse=True)
def word_retriever(monkeypatch):
    """The default retriever, replaced by the test corpus's own word match."""
    monkeypatch.setattr(
        "baywindow.context.read.self_route.best_passages",
        lambda run, passages, k: (passages if passages is not None else run.corpus.full_text(run.question, k))[:k],
    )


def test_an_answered_question_costs_one_short_call(garden, scripted):
    model = scripted(["Ida did. [1]"])
    assert SelfRoute(k=1).read(Run("who painted the fence", garden, model), None) == "Ida did. [1]"
    assert len(model.prompts) == 1
    assert "beans" not in model.prompts[0][-1].content


@pytest.mark.parametrize("decline", ["NOT FOUND", "not found.", "**NOT FOUND**"])
def test_a_decline_in_any_spelling_leads_to_the_whole_text_in_reading_order(garden, scripted, decline):
    model = scripted([decline, "On 4 May. [2]"])
    assert SelfRoute(k=1).read(Run("when were the seeds sown", garden, model), None) == "On 4 May. [2]"
    text = model.prompts[1][-1].content
    assert [text.index(p.text) for p in garden.passages()] == sorted(text.index(p.text) for p in garden.passages())


def test_passages_keep_their_numbers_between_the_calls(garden, scripted):
    model = scripted([NOT_FOUND, "x"])
    run = Run("who painted the fence", garden, model)
    SelfRoute(k=1).read(run, None)
    assert run.numbered[1].text == "The fence was painted green by Ida."
    assert "<passage [1] from house.md:1>" in model.prompts[1][-1].content


def test_what_both_calls_decline_is_declined(garden, scripted):
    assert SelfRoute(k=1).read(Run("who sang", garden, scripted([NOT_FOUND])), []) == NOT_FOUND
    assert SelfRoute(k=1).read(Run("who painted it", garden, scripted([NOT_FOUND, NOT_FOUND])), None) == NOT_FOUND


def test_no_second_call_when_there_is_nothing_more_to_read(garden, scripted):
    model = scripted([NOT_FOUND])
    assert SelfRoute(k=9).read(Run("q", garden, model), [*garden.passages()]) == NOT_FOUND
    assert len(model.prompts) == 1


def test_a_base_model_s_decline_sends_nothing_to_the_long_text(garden, scripted):
    model = scripted([NOT_FOUND])
    model.instructed = False
    assert SelfRoute(k=1).read(Run("who painted the fence", garden, model), None) == NOT_FOUND
    assert len(model.prompts) == 1


def test_a_text_beyond_the_window_is_read_best_ranked_first_and_said(corpus, scripted):
    book = corpus(book="\n".join(f"line {i} fence {'word ' * 20}" for i in range(100)))
    model = scripted([NOT_FOUND, "x"], context_length=500)
    run = Run("fence", book, model)
    SelfRoute(k=2, max_new_tokens=20).read(run, None)
    assert model.count_tokens(model.prompts[1]) <= 480
    assert any("does not fit" in note for note in run.notes)


def test_the_claim_in_miniature_same_answers_for_fewer_tokens(corpus, scripted):
    """Ten questions, nine of which retrieval answers: routed accuracy equals full context at clearly fewer tokens."""
    book = corpus(book="\n".join(f"key{i} opens door{i} {'filler ' * 10}" for i in range(10)))

    def reader(prompt):
        text, question = prompt[-1].content.rsplit("Question: ", 1)
        wanted = question.split()[0].replace("lock", "key")  # a "lock" question shares no word with its line
        line = next((x for x in text.splitlines() if x.startswith(wanted + " ")), "")
        return line.split()[2] if line else NOT_FOUND

    questions = [f"key{i} opens what" for i in range(9)] + ["lock9 belongs where"]
    routed = full = 0
    for i, question in enumerate(questions):
        model = scripted(reader)
        run = Run(question, book, model)
        assert SelfRoute(k=1).read(run, None) == f"door{i}"
        routed += run.meter.usage.prompt_tokens
        whole = Run(question, book, scripted(reader))
        SelfRoute(k=10).read(whole, [*book.passages()])
        full += whole.meter.usage.prompt_tokens
    assert routed < 0.75 * full


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="long_tokens"):
        SelfRoute(long_tokens=3)
    with pytest.raises(ConfigError, match="k=0"):
        SelfRoute(k=0)
