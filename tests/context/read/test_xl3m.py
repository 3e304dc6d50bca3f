"""`xl3m`: the segments of lowest entropy, in their order."""

from __future__ import annotations

import re

import numpy as np
import pytest

from baywindow.context.read.stuff import Stuff
from baywindow.context.read.xl3m import OPENING, PLACE, Xl3m
from baywindow.context.reply import ANSWER, NOT_FOUND
from baywindow.context.run import Run
from baywindow.errors import CapabilityError, ConfigError
from baywindow.models.base import Score


def book(corpus, needles: dict[int, str], lines: int = 80):
    text = [f"filler line {i} says nothing of any use at all" for i in range(lines)]
    for at, needle in needles.items():
        text[at] = needle
    return corpus(book="\n".join(text))


@pytest.fixture
def sure(scripted):
    """Sure of the answer (entropy 0.1) where a segment holds GOLD, half sure (2) at SILVER, else open (6)."""

    class Sure(scripted):
        capabilities = frozenset({"text", "logprobs"})

        def score(self, prompt, continuation):
            assert continuation == OPENING + PLACE
            text = prompt[-1].content
            self.segments = [*getattr(self, "segments", []), text]
            last = 0.1 if "GOLD" in text else 2.0 if "SILVER" in text else 6.0
            return Score(np.zeros(4, dtype=np.float32), entropies=np.array([9, 9, 9, last], dtype=np.float32))

    return Sure


def test_the_surest_segments_are_answered_from_in_reading_order(corpus, sure):
    model = sure(["x"], context_length=400)
    text = book(corpus, {70: "GOLD is hidden here", 10: "SILVER is hidden here"})
    Xl3m(segment_tokens=100, k=2, max_new_tokens=40).read(Run("q", text, model), None)
    said = model.prompts[-1][-1].content
    assert said.index("SILVER") < said.index("GOLD")
    numbers = [int(n) for n in re.findall(r"filler line (\d+) ", said)]
    assert numbers == sorted(numbers)
    assert len(numbers) < 20


def test_every_line_is_probed_once_and_with_the_question_behind_it(corpus, sure):
    model = sure(["x"], context_length=400)
    Xl3m(segment_tokens=100, max_new_tokens=40).read(Run("Where is it?", book(corpus, {}), model), None)
    probed = [int(n) for s in model.segments for n in re.findall(r"filler line (\d+) ", s)]
    assert probed == list(range(80))
    assert all(s.endswith(f"Question: Where is it?\n{ANSWER.form}") for s in model.segments)


def test_probes_are_charged_and_leave_no_numbers(corpus, sure):
    model = sure(["x"], context_length=400)
    run = Run("q", book(corpus, {70: "GOLD is hidden here"}), model)
    Xl3m(segment_tokens=100, k=1, max_new_tokens=40).read(run, None)
    assert run.meter.usage.calls == len(model.segments) + 1
    assert min(run.numbered) == 1
    assert len(run.numbered) == model.prompts[-1][-1].content.count("<passage [")


def test_the_claim_in_miniature_a_needle_at_any_depth_is_found_where_truncation_fails(corpus, sure):
    def reader(prompt) -> str:
        return "here" if "GOLD" in prompt[-1].content else NOT_FOUND

    for depth in (5, 40, 75):
        text = book(corpus, {depth: "GOLD is hidden here"})
        found = Xl3m(segment_tokens=100, k=1, max_new_tokens=40).read(Run("q", text, sure(reader, context_length=400)), None)
        assert found == "here"
    assert (
        Stuff(max_new_tokens=40).read(Run("q", book(corpus, {75: "GOLD is hidden here"}), sure(reader, context_length=400)), None)
        == NOT_FOUND
    )


def test_a_model_without_log_probabilities_is_refused(garden, scripted):
    with pytest.raises(CapabilityError, match="log-probabilities"):
        Xl3m().read(Run("q", garden, scripted(["x"])), None)


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="segment_tokens"):
        Xl3m(segment_tokens=2)
