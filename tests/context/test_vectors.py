"""`vectors`: cosine decides, given passages are ranked among themselves."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from baywindow.context.retrieve.vectors import Vectors
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.errors import ConfigError
from baywindow.models.base import Embedder

# Angles in degrees: the question stands at 0.
ANGLES = {"near": 10, "far": 80, "middle": 40, "behind": 170, "the question": 0}


class Compass(Embedder):
    name, dim, max_tokens = "compass", 2, 100

    def embed(self, texts, kind="passage"):
        at = np.deg2rad([ANGLES[text] for text in texts])
        return np.stack([np.cos(at), np.sin(at)], axis=1).astype(np.float32)


@pytest.fixture
def run() -> SimpleNamespace:
    names = [name for name in ANGLES if name != "the question"]
    return SimpleNamespace(corpus=InMemory([Document(name, name) for name in names], embedder=Compass()))


def test_worked_example(run: SimpleNamespace) -> None:
    found = Vectors(k=3).retrieve(run, "the question", None)
    assert [p.text for p in found] == ["near", "middle", "far"]
    assert [p.score for p in found] == pytest.approx([np.cos(np.deg2rad(a)) for a in (10, 40, 80)], abs=1e-6)


def test_it_narrows_what_it_is_given(run: SimpleNamespace) -> None:
    given = [p for p in run.corpus.passages() if p.text in ("behind", "far")]
    assert [p.text for p in Vectors(k=5).retrieve(run, "the question", given)] == ["far", "behind"]
    assert Vectors().retrieve(run, "the question", []) == []


def test_k_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="k=0"):
        Vectors(k=0)
