"""`extractive`: the sentences that share the question's words or meaning stay; passages come best first, sentences as they stood."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from baywindow.context.compress._units import sentence_units
from baywindow.context.compress.extractive import Extractive
from baywindow.context.condensed import Condensed
from baywindow.context.run import Run
from baywindow.documents.bm25 import Bm25
from baywindow.errors import ConfigError

TEXT = "Boats came in. The pier was closed in 1987. Fish was cheap. Ida painted the pier green. It rained."


@pytest.fixture
def run(corpus, scripted):
    return lambda question: Run(question, corpus(a=TEXT), scripted([]))


def test_worked_example(run) -> None:
    # "pier" is in sentences 2 and 4, "closed" in 2 only. 15 words of room hold both (6 + 5 words and the mark between), but no more.
    asked = run("When was the pier closed?")
    (kept,) = Extractive(budget_tokens=12, by="words").compress(asked, list(asked.corpus.passages()))
    assert isinstance(kept, Condensed)
    assert kept.text == "The pier was closed in 1987. … Ida painted the pier green."
    (kept,) = Extractive(budget_tokens=8, by="words").compress(asked, list(asked.corpus.passages()))
    assert kept.text == "The pier was closed in 1987."
    assert (kept.start, kept.end) == (TEXT.index("The pier"), TEXT.index(" Fish"))


@pytest.mark.parametrize("question", ["pier closed", "cheap fish", "who painted"])
@pytest.mark.parametrize("budget", [5, 9, 14])
def test_kept_sentences_are_the_best_ones_that_fit(run, question, budget) -> None:
    """Oracle: take sentences by BM25, best first, while the joined text fits."""
    asked = run(question)
    passages = list(asked.corpus.passages())
    units = sentence_units(passages)
    texts = [TEXT[u.start : u.end] for u in units]
    scores = Bm25(texts).scores(question)
    chosen: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: -scores[i]):
        trial = sorted([*chosen, i])
        size = sum(len(texts[j].split()) for j in trial) + sum(b - a > 1 for a, b in itertools.pairwise(trial))
        if size > budget:
            break
        chosen.append(i)
    kept = Extractive(budget_tokens=budget, by="words").compress(asked, passages)
    assert [text in "".join(p.text for p in kept) for text in texts] == [i in chosen for i in range(len(texts))]


def test_meaning_finds_what_shares_no_word(corpus, scripted) -> None:
    run = Run("vehicles", corpus(a=TEXT), scripted([]))
    near = {"Boats came in.": [1.0, 0.0]}
    run.corpus.embeddings = lambda passages: np.array([near.get(p.text, [0.0, 1.0]) for p in passages], dtype=np.float32)
    run.corpus.embed_query = lambda query: np.array([1.0, 0.0], dtype=np.float32)
    (kept,) = Extractive(budget_tokens=3).compress(run, list(run.corpus.passages()))
    assert kept.text == "Boats came in."


@pytest.mark.parametrize(("question", "first"), [("pier closed in 1987", "b"), ("cheap fish", "c"), ("boats", "a")])
def test_the_passage_with_the_best_sentence_comes_first(corpus, scripted, question, first) -> None:
    """Ranks of passages must outlive compression: a reader whose window is too small leaves the last ones out."""
    run = Run(
        question,
        corpus(a="Boats came in. It rained.", b="The pier was closed in 1987. It froze.", c="Fish was cheap. It snowed."),
        scripted([]),
    )
    kept = Extractive(budget_tokens=16, by="words").compress(run, list(run.corpus.passages()))
    assert len(kept) == 3
    assert kept[0].source == first


def test_everything_that_fits_is_left_as_it_is(run) -> None:
    asked = run("pier")
    passages = list(asked.corpus.passages())
    assert Extractive(budget_tokens=500, by="words").compress(asked, passages) == passages
    assert asked.notes == []


@pytest.mark.parametrize(("field", "value"), [("by", "luck"), ("alpha", 1.5), ("budget_tokens", 0)])
def test_options_out_of_range_are_refused(field, value) -> None:
    with pytest.raises(ConfigError, match=field):
        Extractive(**{field: value})
