"""`selective_context`: what the model could have guessed goes first."""

from __future__ import annotations

import numpy as np
import pytest

from baywindow import recipe
from baywindow.budget import Budget, Meter
from baywindow.context.compress._scoring import per_unit
from baywindow.context.compress.selective_context import SelectiveContext
from baywindow.context.run import Run
from baywindow.errors import CapabilityError, ConfigError
from baywindow.models.base import Score

TEXT = "As you all know of course, the safe code is 4711. And so on and so on, as ever."
RARE = {"safe": -9.0, "code": -9.0, "4711.": -12.0, "know": -2.0}


def guessing(prompt: str, word: str) -> float:
    return RARE.get(word, -0.5)


def test_mean_over_a_units_tokens() -> None:
    # Tokens at 0-2, 2-4, 5-8; the unit 0-4 has the first two: mean of -1 and -3; the unit 4-5 has none; 5-8 the last.
    score = Score(np.array([-1, -3, -8], dtype=np.float32), offsets=((0, 2), (2, 4), (5, 8)))
    assert per_unit(score, [(0, 4), (4, 5), (5, 8)]).tolist() == [-2.0, 0.0, -8.0]
    # A token across a border counts for both sides; offsets may start later in the text.
    score = Score(np.array([-4], dtype=np.float32), offsets=((0, 3),))
    assert per_unit(score, [(10, 11), (11, 13)], 10).tolist() == [-4.0, -4.0]


def test_worked_example(corpus, scoring) -> None:
    # Phrases: "As you all know", "of course,", "the safe code", "is 4711.", …. Means: know (-2 - 1.5)/4 = -0.875; the safe code
    # (-0.5 - 18)/3 = -6.2; is 4711. (-0.5 - 12)/2 = -6.25. Five words hold the last two only.
    run = Run("irrelevant", corpus(a=TEXT), scoring(guessing))
    (kept,) = SelectiveContext(budget_tokens=5).compress(run, list(run.corpus.passages()))
    assert kept.text == "the safe code is 4711."
    (kept,) = SelectiveContext(budget_tokens=5, unit="word").compress(run, list(run.corpus.passages()))
    assert kept.text.split()[1:] == ["safe", "code", "4711."] or {"safe", "code", "4711.", "know"} <= set(kept.text.split())
    (kept,) = SelectiveContext(budget_tokens=11, unit="sentence").compress(run, list(run.corpus.passages()))
    assert kept.text == TEXT[: TEXT.index(" And")]


def test_each_sentence_is_scored_alone_and_the_question_is_not_looked_at(corpus, scoring) -> None:
    run = Run("what is the code", corpus(a=TEXT), scoring(guessing))
    SelectiveContext(budget_tokens=5).compress(run, list(run.corpus.passages()))
    assert run.model.asked == [("", TEXT[: TEXT.index(" And")]), ("", TEXT[TEXT.index("And") :])]
    assert run.meter.prompt_tokens == len(TEXT.split())


def test_informative_words_outlive_random_dropping(corpus, scoring) -> None:
    rng = np.random.default_rng(0)
    words = TEXT.split()
    survived = sum({"4711.", "code"} <= {words[i] for i in rng.permutation(len(words))[:5]} for _ in range(200)) / 200
    run = Run("", corpus(a=TEXT), scoring(guessing))
    (kept,) = SelectiveContext(budget_tokens=5).compress(run, list(run.corpus.passages()))
    assert {"4711.", "code"} <= set(kept.text.split())
    assert survived < 0.3


def test_without_budget_for_scoring_words_decide_and_a_note_says_so(corpus, scoring) -> None:
    run = Run("safe code", corpus(a=TEXT), scoring(guessing), meter=Meter(budget=Budget(tokens=3)))
    (kept,) = SelectiveContext(budget_tokens=11).compress(run, list(run.corpus.passages()))
    assert "4711" in kept.text
    assert run.model.asked == []
    assert any("does not allow" in note for note in run.notes)


def test_a_scorer_of_its_own_lifts_the_need_for_log_probabilities(corpus, scripted, scoring, monkeypatch) -> None:
    remote = frozenset({"text"})
    with pytest.raises(CapabilityError, match="logprobs"):
        recipe.parse("selective_context > rag").check_capabilities(remote, "remote")
    recipe.parse('selective_context(scorer="small") > rag').check_capabilities(remote, "remote")
    from baywindow.context.compress import _scoring

    small = scoring(guessing)
    monkeypatch.setattr(_scoring, "_loaded", lambda name: small)
    run = Run("", corpus(a=TEXT), scripted([]))
    (kept,) = SelectiveContext(budget_tokens=5, scorer="small").compress(run, list(run.corpus.passages()))
    assert "4711" in kept.text
    assert run.meter.tokens == 0  # the small model is not the one that is paid for


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ConfigError, match="unit"):
        SelectiveContext(unit="letter")  # type: ignore[arg-type]
