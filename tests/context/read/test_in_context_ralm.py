"""`in_context_ralm`: retrieval follows the answer while it is being written."""

from __future__ import annotations

import re

import numpy as np
import pytest

from baywindow.context.read.in_context_ralm import InContextRalm
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import CapabilityError, ConfigError
from baywindow.models.base import Score


@pytest.fixture
def atlas(corpus):
    return corpus(atlas="Ada was born in Bergen and left early\nBergen lies on the coast of Norway\nCheese is made of milk")


def question_of(prompt) -> str:
    """The last user turn: examples stand before it, and what was written so far behind it."""
    return [m.content for m in prompt if m.role == "user"][-1]


def passage_in(prompt) -> str:
    return re.search(r"<passage [^>]*>\n(.+)\n</passage>", question_of(prompt))[1]


def test_each_stride_asks_with_the_end_of_the_answer_and_shows_one_passage(atlas, scripted):
    replies = iter(["in Bergen which", " lies on the", " coast", ""])
    model = scripted(lambda p: next(replies))
    reader = InContextRalm(stride_tokens=4, query_tokens=3, max_new_tokens=30)  # the fake counts a leading blank as a token
    assert reader.read(Run("Where was Ada born?", atlas, model), None) == "in Bergen which lies on the coast"
    shown = [passage_in(p) for p in model.prompts]
    assert shown[0].startswith("Ada was born")  # asked with the question
    assert shown[1:] == ["Bergen lies on the coast of Norway"] * 3  # asked with the last three words written
    assert [p[-1].role for p in model.prompts] == ["user", "assistant", "assistant", "assistant"]
    assert model.prompts[2][-1].role == "assistant"
    assert model.prompts[2][-1].content == "in Bergen which lies on the"
    assert all(question_of(p).count("<passage [") == 1 for p in model.prompts)


def test_likelihood_chooses_the_passage_that_explains_what_was_written(atlas, scripted):
    class Scoring(scripted):
        capabilities = frozenset({"text", "logprobs"})

        def score(self, prompt, continuation):
            return Score(np.array([-1.0 if "milk" in passage_in(prompt) else -5.0], dtype=np.float32))

    replies = iter(["Bergen cheese milk", " more", ""])
    model = Scoring(lambda p: next(replies))
    InContextRalm(stride_tokens=3, rank="likelihood").read(Run("Where was Ada born?", atlas, model), None)
    assert passage_in(model.prompts[1]) == "Cheese is made of milk"
    plain = scripted(lambda p, r=iter(["Bergen cheese milk", " more", ""]): next(r))
    InContextRalm(stride_tokens=3, query_tokens=32).read(Run("Where was Ada born?", atlas, plain), None)
    assert passage_in(plain.prompts[1]) == "Ada was born in Bergen and left early"


def test_likelihood_needs_a_model_that_gives_it(atlas, scripted):
    with pytest.raises(CapabilityError, match="log-probabilities"):
        InContextRalm(rank="likelihood").read(Run("q", atlas, scripted(["x"])), None)


def test_calls_are_capped_and_it_says_so(atlas, scripted):
    model = scripted(lambda p: " Bergen")
    run = Run("Where was Ada born?", atlas, model)
    InContextRalm(stride_tokens=2, max_new_tokens=64, max_calls=5).read(run, None)
    assert len(model.prompts) == 5
    assert any("max_calls=5" in note for note in run.notes)


def test_a_decline_in_the_first_stride_ends_it(atlas, scripted):
    model = scripted([NOT_FOUND])
    assert InContextRalm().read(Run("Where was Ada born?", atlas, model), None) == NOT_FOUND
    assert len(model.prompts) == 1


def test_no_shared_word_means_no_call(atlas, scripted):
    model = scripted(["x"])
    assert InContextRalm().read(Run("zzz", atlas, model), None) == NOT_FOUND
    assert model.prompts == []


def test_a_passage_is_cut_to_its_length(corpus, scripted):
    model = scripted(["x", ""])
    InContextRalm(passage_tokens=40).read(Run("bergen", corpus(a="bergen " * 500), model), None)
    assert question_of(model.prompts[0]).count("bergen") <= 41


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="rank"):
        InContextRalm(rank="best")  # type: ignore[arg-type]
