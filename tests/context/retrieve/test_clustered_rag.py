"""`clustered_rag`: groups, one summary each, made once, with marks that lead to passages."""

from __future__ import annotations

import re

import numpy as np
import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.condensed import Condensed, cited
from baywindow.context.retrieve.clustered_rag import ClusteredRag, clustered
from baywindow.context.run import Run
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.errors import ConfigError
from baywindow.models.base import Embedder

pytest.importorskip("sklearn", reason="needs scikit-learn")
TOPICS = ("pool", "food", "noise")


class Topics(Embedder):
    name, dim, max_tokens = "topics", 3, 100

    def embed(self, texts, kind="passage"):
        found = np.array([[t.lower().count(topic) + 0.01 * (1 + len(t) % 3) for topic in TOPICS] for t in texts], dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))


def reviews(count: int) -> InMemory:
    texts = [f"Guest {n} on the {TOPICS[n % 3]}: the {TOPICS[n % 3]} was as before." for n in range(count)]
    return InMemory([Document(text, f"r{n:02}") for n, text in enumerate(texts)], embedder=Topics())


def summary(prompt) -> str:
    marks = re.findall(r"<passage \[(\d+)\]", prompt[1].content)
    topic = next(t for t in TOPICS if t in prompt[1].content)
    return f"Guests speak of the {topic}. [{marks[0]}][{marks[-1]}]"


def test_like_goes_with_like_and_the_nearest_to_the_centre_stands_first() -> None:
    # Two clusters on a line, at 0, 0.1, 0.5 and at 10, 11: centres 0.2 and 10.5.
    groups = clustered(np.array([[0.0], [10.0], [0.1], [11.0], [0.5]], dtype=np.float32), 2, 0)
    assert groups == [[2, 0, 4], [1, 3]]
    assert clustered(np.ones((4, 2), dtype=np.float32), 3, 0) == [[0, 1, 2, 3]]


def test_summaries_stand_for_the_passages_nearest_to_the_question_first(scripted) -> None:
    corpus = reviews(9)
    run = Run("how was the food?", corpus, scripted(summary))
    found = ClusteredRag(clusters=3).retrieve(run, run.question, None)
    assert len(found) == len(run.model.prompts) == 3
    assert "food" in found[0].text
    for passage in found:
        assert isinstance(passage, Condensed)
        assert passage.written
        origin = cited(passage)
        assert corpus.excerpt(origin.source, origin.start, origin.end) == origin.text
        for n in map(int, re.findall(r"\[(\d+)\]", passage.text)):
            assert next(t for t in TOPICS if t in passage.text) in run.numbered[n].text


def test_summaries_are_made_once_and_their_marks_fit_the_next_run(scripted) -> None:
    corpus = reviews(9)
    ClusteredRag(clusters=3).retrieve(Run("food?", corpus, scripted(summary)), "food?", None)
    later = Run("noise?", corpus, scripted([]))  # would fail on any call
    later.number(next(iter(corpus.passages())))  # another numbering than the first run's
    found = ClusteredRag(clusters=3).retrieve(later, "noise?", None)
    assert "noise" in found[0].text
    for n in map(int, re.findall(r"\[(\d+)\]", found[0].text)):
        assert "noise" in later.numbered[n].text


def test_tokens_stay_flat_as_texts_are_added(scripted) -> None:
    """The paper's claim in miniature: nineteen times the reviews, the same context."""
    sizes = []
    for count in (4, 75):
        run = Run("food?", reviews(count), scripted(summary))
        sizes.append(sum(run.model.count_tokens(p.text) for p in ClusteredRag(clusters=3).retrieve(run, "food?", None)))
    assert sizes[1] <= sizes[0] * 1.1


def test_without_budget_there_is_a_note_and_no_call(scripted) -> None:
    run = Run("food?", reviews(9), scripted([]), meter=Meter(budget=Budget(tokens=20)))
    assert ClusteredRag().retrieve(run, "food?", None) == []
    assert any("were not summarised" in n for n in run.notes)


@pytest.mark.parametrize("field", ["clusters", "k", "summary_tokens"])
def test_options_out_of_range_are_refused(field) -> None:
    with pytest.raises(ConfigError, match=field):
        ClusteredRag(**{field: 0})
