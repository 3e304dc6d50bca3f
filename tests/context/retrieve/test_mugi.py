"""`mugi`: what is written, what full text is asked, and what the vectors are the mean of."""

from __future__ import annotations

import numpy as np
import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.retrieve.mugi import KINDS, Mugi, expanded, mean_vector
from baywindow.context.run import Run
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.errors import ConfigError
from baywindow.models.base import Embedder

TEXTS = {
    "a": "The physician prescribed rest.",
    "b": "A question of what the matter is, and of matters.",
    "c": "Aspirin lowers a fever within the hour.",
}


class Letters(Embedder):
    name, dim, max_tokens = "letters", 26, 100

    def embed(self, texts, kind="passage"):
        found = np.array([[t.lower().count(chr(97 + n)) + 1e-3 for n in range(26)] for t in texts], dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def corpus() -> InMemory:
    return InMemory([Document(text, source) for source, text in TEXTS.items()], embedder=Letters())


def test_the_question_is_repeated_by_the_lengths_ratio() -> None:
    # 24 letters written for a question of 2: 12 times as long; with β 6 twice, with β 13 not at all, so once.
    assert expanded("ab", ["x" * 12, "y" * 12], 6) == "ab ab " + "x" * 12 + " " + "y" * 12
    assert expanded("ab", ["x" * 12, "y" * 12], 13).startswith("ab x")
    assert expanded("ab", [], 6) == "ab"


def test_every_reference_is_asked_for_in_its_own_form(corpus, scripted) -> None:
    model = scripted(lambda p: "Aspirin lowers fever.")
    Mugi(references=3).retrieve(Run("what helps?", corpus, model), "what helps?", None)
    assert len(model.prompts) == 3
    for prompt, kind in zip(model.prompts, KINDS, strict=False):
        assert kind in prompt[0].content
        assert prompt[1].content == "Question: what helps?"


def test_written_words_find_what_the_question_alone_does_not(corpus, scripted) -> None:
    """The paper's claim in miniature: the question shares no word with the right passage."""
    question = "what brings temperature down?"
    assert corpus.full_text(question, 5) == []
    found = Mugi(references=2).retrieve(Run(question, corpus, scripted(lambda p: "Aspirin against fever")), question, None)
    assert found[0].source == "c"


def test_the_vector_is_the_mean_over_written_passages(corpus, scripted) -> None:
    run = Run("q", corpus, scripted([]))
    two = np.mean(Letters().embed(["q abc", "q xyz"]), axis=0)
    np.testing.assert_allclose(mean_vector(run, "q", ["abc", "xyz"]), two / np.linalg.norm(two), rtol=1e-5)
    np.testing.assert_allclose(mean_vector(run, "q", []), Letters().embed(["q"])[0], rtol=1e-5)


def test_without_budget_the_question_searches_alone(corpus, scripted) -> None:
    model = scripted(lambda p: "Aspirin")
    run = Run("aspirin fever", corpus, model, meter=Meter(budget=Budget(tokens=200)))
    found = Mugi(reference_tokens=96).retrieve(run, "aspirin fever", None)
    assert found[0].source == "c"
    assert run.meter.tokens <= 200
    assert any("were not written" in note for note in run.notes)


def test_it_narrows_what_it_is_given(corpus, scripted) -> None:
    given = [p for p in corpus.passages() if p.source != "c"]
    found = Mugi(k=1, references=1).retrieve(Run("doctor", corpus, scripted(lambda p: "physician")), "doctor", given)
    assert [p.source for p in found] == ["a"]


@pytest.mark.parametrize(("field", "value"), [("k", 0), ("references", 9), ("references", 0), ("adaptive", 0), ("depth", 0)])
def test_options_out_of_range_are_refused(field, value) -> None:
    with pytest.raises(ConfigError, match=field):
        Mugi(**{field: value})
