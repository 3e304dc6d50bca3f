"""A memory in a folder of its own, with a scripted model, a clock that stands still, and an embedder that needs no weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope
from baywindow.models.base import Embedder

START = datetime(2024, 5, 8, 12, 0, tzinfo=UTC)


class WordEmbedder(Embedder):
    """A bag of words hashed into 64 dimensions: shared words make similar vectors."""

    name = "words"
    dim = 64
    max_tokens = 256

    def __init__(self, name: str = "words", dim: int = 64) -> None:
        self.name = name
        self.dim = dim
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> NDArray[np.float32]:
        self.texts += texts
        found = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            row[0] = 0.01
            for word in text.lower().split():
                row[int.from_bytes(hashlib.blake2b(word.strip(".,?!:").encode(), digest_size=4).digest()) % self.dim] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


MakeMemory = Callable[..., Memory]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def make_memory(tmp_path: Path, clock: Clock, embedder: WordEmbedder) -> Iterator[MakeMemory]:
    """``make_memory("mem0", model=…)``: the same folder each time, unless another is named; closed after the test."""
    opened: list[Memory] = []

    def make(system: Any = "turn_retrieval", where: Any = None, **given: Any) -> Memory:
        opened.append(Memory(where or tmp_path / "memory", system, **{"embedder": embedder, "clock": clock} | given))
        return opened[-1]

    yield make
    for memory in opened:
        memory.close()


@pytest.fixture
def ann() -> Scope:
    return Scope("ann")


@pytest.fixture
def pairs_memory(make_memory: MakeMemory) -> Callable[[Path], Memory]:
    """A memory in a folder, with the system that the fault tests' writers use."""
    from .pairs import Pairs

    return lambda where: make_memory(Pairs(), where=where)
