"""`full_text`: rare words count, given passages are ranked among themselves."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from baywindow.context.retrieve.full_text import FullText, ranked_by_words
from baywindow.documents.base import Document, Passage
from baywindow.documents.bm25 import K1, B, Bm25
from baywindow.documents.memory import InMemory
from baywindow.documents.words import words
from baywindow.errors import ConfigError

TEXTS = ["The red fox and the red hen.", "A red barn.", "Foxes sleep in winter, hens lay eggs all summer long.", "Nothing here."]


def passage(n: int, text: str) -> Passage:
    return Passage(text=text, source=f"s{n}", start=0, end=len(text), line=1)


def by_hand(query: str, texts: list[str]) -> list[float]:
    """BM25 as the paper writes it, with Lucene's idf: ln(1 + (N - n + 0.5) / (n + 0.5))."""
    split = [words(t) for t in texts]
    average = sum(map(len, split)) / len(split)
    scores = []
    for tokens in split:
        score = 0.0
        for word in words(query):
            holding = sum(word in other for other in split)
            often = tokens.count(word)
            idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            score += idf * often / (often + K1 * (1 - B + B * len(tokens) / average)) if holding else 0.0
        scores.append(score)
    return scores


def test_worked_example() -> None:
    # "barn" is in one of four texts and ranks its text first; "red" alone is in two, where saying it twice wins.
    assert [p.source for p in ranked_by_words("red barn", [passage(n, t) for n, t in enumerate(TEXTS)])][:2] == ["s1", "s0"]
    assert [p.source for p in ranked_by_words("red", [passage(n, t) for n, t in enumerate(TEXTS)])][:2] == ["s0", "s1"]


@pytest.mark.parametrize("query", ["red fox", "do foxes lay eggs in summer", "hen hen hen red", "nothing", "zebra"])
def test_scores_are_those_of_the_formula(query: str) -> None:
    assert list(Bm25(TEXTS).scores(query)) == pytest.approx(by_hand(query, TEXTS), abs=1e-5)


def test_words_are_stemmed_and_folded_and_common_ones_left_out() -> None:
    assert words("What did the Cafés' runners do with snake_case?") == ["cafe", "runner", "snake", "case"]


def test_it_searches_the_corpus_or_narrows_what_it_is_given() -> None:
    corpus = InMemory([Document(t, f"s{n}") for n, t in enumerate(TEXTS)])
    run = SimpleNamespace(corpus=corpus)
    assert [p.source for p in FullText(k=2).retrieve(run, "red", None)] == ["s0", "s1"]
    given = [passage(3, TEXTS[3]), passage(1, TEXTS[1])]
    assert [p.source for p in FullText(k=2).retrieve(run, "red", given)] == ["s1", "s3"]
    assert len(FullText(k=1).retrieve(run, "red", given)) == 1
    assert FullText().retrieve(run, "red", []) == []


def test_k_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="k=0"):
        FullText(k=0)
