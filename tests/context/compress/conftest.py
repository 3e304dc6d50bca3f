"""A model whose log-probabilities are written down, word by word."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from baywindow.models.base import Inspection, Score


@pytest.fixture
def scoring(scripted) -> Callable[..., object]:
    """``scoring(worth)``: the log-probability of a word is ``worth(all before it, word)``; words are tokens."""

    class Scoring(scripted):
        capabilities = frozenset({"text", "logprobs", "weights"})
        layers = 10

        def __init__(self, worth=lambda prompt, word: -1.0, replies=lambda prompt: "", context_length=4096) -> None:
            super().__init__(replies, context_length)
            self.worth = worth
            self.asked: list[tuple[str, str]] = []
            self.inspected: list[tuple[str, list[int]]] = []

        def score(self, prompt, continuation):
            self.asked.append((prompt, continuation))
            spans = tuple(m.span() for m in re.finditer(r"\S+", continuation))
            words = tuple(continuation[a:b] for a, b in spans)
            return Score(
                np.array([self.worth(prompt + continuation[:a], continuation[a:b]) for a, b in spans], dtype=np.float32),
                words,
                offsets=spans,
            )

        def inspect(self, text, layers, want):
            self.inspected.append((text, list(layers)))
            spans = tuple(m.span() for m in re.finditer(r"\S+", text))
            row = np.array([self.worth("", text[a:b]) for a, b in spans], dtype=np.float32)
            return Inspection(spans, scores={layer: np.stack([row, 0 * row]) for layer in layers})

    return Scoring
