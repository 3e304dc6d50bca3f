"""A deterministic embedder and makers of small files, so that no test here needs a model or a network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from baywindow.models.base import Embedder


class HashEmbedder(Embedder):
    """A bag of words hashed into 64 dimensions: shared words make similar vectors. Counts the texts it was given."""

    name = "hashed"
    dim = 64
    max_tokens = 256

    def __init__(self, name: str = "hashed") -> None:
        self.name = name
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> NDArray[np.float32]:
        self.texts += texts
        found = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            row[0] = 0.01
            for word in text.lower().split():
                row[int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest()) % self.dim] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture
def make_embedder() -> type[HashEmbedder]:
    return HashEmbedder
