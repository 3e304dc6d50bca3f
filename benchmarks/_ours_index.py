"""One timed run of Baywindow's indexing in a process of its own, so that peak memory and caches are its own.

python _ours_index.py FOLDER STORE EMBEDDER      EMBEDDER is stored, none, embedded or embedded:bfloat16
"""

from __future__ import annotations

from baywindow.cli.heap import share_one_heap

if __name__ == "__main__":
    share_one_heap()  # as `bay index` does, before an import starts a thread

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from baywindow.documents.index import Index
from baywindow.models.base import Embedder
from baywindow.models.embedders import default_embedder


class Stored(Embedder):
    """Rows of a fixed matrix instead of a model's work, with the real model's tokenizer: everything but embedding is timed."""

    name = "stored"
    dim = 384

    def __init__(self) -> None:
        real = default_embedder()
        self.max_tokens = real.max_tokens
        self.tokenizer_json = real.tokenizer_json
        rows = np.random.default_rng(0).standard_normal((997, self.dim)).astype(np.float32)
        self._rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> NDArray[np.float32]:
        return self._rows[[len(text) % len(self._rows) for text in texts]]


def peak_mb() -> float:
    """Peak memory of this process. Linux lets ru_maxrss start at the parent's peak, so the kernel's own count comes first."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(folder: str, store: str, name: str) -> dict[str, float]:
    embedder: Embedder | None = None
    if name == "stored":
        embedder = Stored()
    elif name != "none":
        embedder = default_embedder(dtype="bfloat16" if name.endswith("bfloat16") else "float32")
        embedder.embed(["warm up"])
    started = time.perf_counter()
    index = Index(store, embedder=embedder)
    index.update([folder])
    words = time.perf_counter() - started
    if embedder is not None:
        index.embed()
    seconds = time.perf_counter() - started
    again = time.perf_counter()
    Index(store, embedder=embedder).update([folder])
    return {
        "seconds": seconds,
        "full_text_seconds": words,
        "unchanged_seconds": time.perf_counter() - again,
        "chunks": index.info().chunks,
        "peak_mb": peak_mb(),
    }


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(*sys.argv[1:])))
