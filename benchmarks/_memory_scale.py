"""What search and add cost when one user has very many memories. Only time and bytes are measured: the vectors stored are drawn."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from _locomo import questions, talks
from _memory_retrieval import folder_bytes, lines, percentiles, timed
from numpy.typing import NDArray

from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope
from baywindow.models.base import Embedder

AT_ONCE = 5000
SEARCHES = 300
ADDS = 200
SCOPE = Scope("one user")


class Drawn(Embedder):
    """Random unit vectors for what is stored while ``drawing``; questions, and turns after that, are embedded as ever."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.name, self.dim, self.max_tokens = f"{inner.name}, drawn", inner.dim, inner.max_tokens
        self._rng = np.random.default_rng(0)
        self.drawing = True

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> NDArray[np.float32]:
        if kind == "query" or not self.drawing:
            return self._inner.embed(texts, kind)
        made = self._rng.standard_normal((len(texts), self.dim)).astype(np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)


def measured(inner: Embedder, count: int) -> dict[str, Any]:
    embedder = Drawn(inner)
    texts = drawn_texts(count + ADDS)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    said = [{"role": "user", "name": "Ann", "content": text, "said_at": start + timedelta(minutes=n)} for n, text in enumerate(texts)]
    asked = [question.text for question in questions()][:SEARCHES]
    filling_s: list[float] = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, Memory(folder, "turn_retrieval", embedder=embedder) as memory:
        for at in range(0, count, AT_ONCE):
            with timed(filling_s):
                memory.add(said[at : min(at + AT_ONCE, count)], SCOPE)
            print(f"  {min(at + AT_ONCE, count):,} of {count:,}", file=sys.stderr, flush=True)
        embedder.drawing = False
        size = folder_bytes(Path(folder))
        search = {by: _searches(folder, by, embedder, asked) for by in ("words", "meaning", "both")}
        adding_s: list[float] = []
        adding_work_s: list[float] = []
        for message in said[count:]:
            with timed(adding_s), worked(adding_work_s):
                memory.add(message, SCOPE)
    return {
        "count": count,
        "bytes": size,
        "bulk_seconds": round(sum(filling_s), 1),
        "search_ms": search,
        "add_ms": percentiles(adding_s) | {"processor": median_ms(adding_work_s)},
    }


def _searches(folder: str, by: str, embedder: Embedder, asked: Sequence[str]) -> dict[str, float]:
    """Percentiles of searches, after one that reads the vectors into memory and is told apart."""
    first_s: list[float] = []
    seconds: list[float] = []
    work_s: list[float] = []
    with Memory(folder, f"turn_retrieval(by='{by}')", embedder=embedder) as memory:
        with timed(first_s):
            memory.search("warm up", SCOPE)
        for question in asked:
            with timed(seconds), worked(work_s):
                memory.search(question, SCOPE)
    return percentiles(seconds) | {"first": round(first_s[0] * 1000, 1), "processor": median_ms(work_s)}


@contextmanager
def worked(seconds: list[float]) -> Iterator[None]:
    """Seconds of the processor, all threads: others on the machine disturb them less than those of the clock."""
    start = time.process_time()
    yield
    seconds.append(time.process_time() - start)


def median_ms(seconds: Sequence[float]) -> float:
    return round(float(np.median(seconds)) * 1000, 1)


def drawn_texts(count: int) -> list[str]:
    """Turns of words drawn as often as LoCoMo's turns use them, with its turns' lengths."""
    rng = random.Random(0)
    real = [line.split() for talk in talks().values() for line in lines(talk)]
    pool = [word for words in real for word in words]
    return [" ".join(rng.choices(pool, k=len(rng.choice(real)))) for _ in range(count)]
