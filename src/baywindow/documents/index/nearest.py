"""Nearest vectors: an exact product where there are few, an approximate index with measured recall where there are many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baywindow.documents.bm25 import best_first
from baywindow.documents.index import asked
from baywindow.documents.index.places import Places
from baywindow.documents.index.rows import FILE_BITS

FLAT_LIMIT = 50_000  # vectors; 384 dimensions of these are 77 MB and take some 5 ms a question
# Of the IVF index. Vectors are of unit length, so this ranks as the cosine does; clusters by "dot" are worse.
DISTANCE = "l2"
RECALL_WANTED = 0.95
RECALL_QUESTIONS = 100
RECALL_K = 10
FIRST_NPROBES = 2  # each probe reads a partition: time goes up with them
SMALLEST_NUMBER = 16  # of partitions
Near = list[tuple[int, float]]  # (chunk id, cosine similarity), best first
ROWS_AT_ONCE = 256  # turned together: they fit the processor's cache, and so do the columns' ends


@dataclass(frozen=True)
class Flat:
    """All vectors in memory. Exact. ``vectors`` (vector, dim) are searched in half the time if they are stored `by_column`."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def search(self, query: NDArray[np.float32], k: int) -> Near:
        scores = self.vectors @ query
        if len(scores) > 4 * k:
            rough = np.argpartition(-scores, k)[: k + 1]
            order = rough[np.lexsort((self.ids[rough], -scores[rough]))][:k]
        else:
            order = np.asarray(best_first(scores, k), dtype=np.int64)
        return [(int(self.ids[i]), float(scores[i])) for i in order]


@dataclass(frozen=True)
class Approximate:
    """LanceDB's IVF index; rows it does not cover yet are searched flat. ``condition`` limits to the sources that were asked for;
    ``spare`` more than was asked for are given, in place of vectors that stand for no chunk any more."""

    table: Any
    places: Places
    nprobes: int
    condition: str | None
    spare: int = 0

    def search(self, query: NDArray[np.float32], k: int) -> Near:
        rows = asked.by_vector(self.table, query, "vector", k + self.spare, self.condition, DISTANCE, self.nprobes)
        ids = self.places.ids(rows["_rowid"].to_numpy()).tolist()
        return [(i, 1.0 - d / 2) for i, d in zip(ids, rows["_distance"].to_pylist(), strict=True)]


def load_flat(table: Any, numbers: NDArray[np.int64] | None, condition: str | None) -> Flat:
    """The vectors of some files (None: all)."""
    wanted = table.search().select(["id", "vector"])
    rows = (wanted.where(condition) if condition is not None else wanted).to_arrow()
    ids = rows["id"].to_numpy()
    dim = rows.schema.field("vector").type.list_size
    # combine_chunks gives one array, or none where there are no rows.
    flat = rows["vector"].combine_chunks()
    vectors = flat.flatten().to_numpy().reshape(-1, dim) if len(ids) else np.zeros((0, dim), np.float32)
    if numbers is not None:
        keep = np.isin(ids >> FILE_BITS, numbers)
        ids, vectors = ids[keep], vectors[keep]
    order = np.argsort(ids)
    return Flat(ids[order], by_column(vectors, order))


def by_column(vectors: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows in this order, each column in one piece. A product with one vector then reads long runs of memory: with the rows in one piece
    BLAS sums 384 numbers 50,000 times, and takes twice as long.
    """
    found = np.empty((len(order), vectors.shape[1]), dtype=np.float32, order="F")
    for at in range(0, len(order), ROWS_AT_ONCE):
        found[at : at + ROWS_AT_ONCE] = vectors[order[at : at + ROWS_AT_ONCE]]
    return found


def build_approximate(table: Any) -> tuple[int, float]:
    """Builds the IVF index and raises ``nprobes`` until recall@10 against flat search is high enough: (nprobes, recall)."""
    from lancedb.index import IvfFlat

    count = table.count_rows()
    size = max(1, min(count // SMALLEST_NUMBER, round(count**0.5)))
    # By size, not by number: LanceDB's `optimize` keeps to a size that was given, and else joins partitions to a few huge ones.
    table.create_index("vector", config=IvfFlat(distance_type=DISTANCE, target_partition_size=size), replace=True)
    partitions = -(-count // size)
    places = Places(table)
    flat = load_flat(table, None, None)
    rng = np.random.default_rng(0)
    questions = _questions(flat.vectors, rng)
    # A hit counts if it is as near as the tenth of the exact ones: among equals it does not matter which is found.
    bars = [flat.search(q, RECALL_K)[-1][1] - 1e-5 for q in questions]
    nprobes = min(FIRST_NPROBES, partitions)
    while True:
        search = Approximate(table, places, nprobes, None)
        good = [sum(score >= bar for _, score in search.search(q, RECALL_K)[:RECALL_K]) for q, bar in zip(questions, bars, strict=True)]
        recall = sum(good) / (len(good) * min(RECALL_K, count))
        if recall >= RECALL_WANTED or nprobes == partitions:
            return nprobes, recall
        nprobes = min(partitions, nprobes * 2)


def _questions(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Stand-ins for questions: halfway between a stored vector and another, since a stored vector itself is too easy to find."""
    first, second = rng.integers(0, len(vectors), (2, RECALL_QUESTIONS))
    mixed = 0.7 * vectors[first] + 0.3 * vectors[second]
    found: NDArray[np.float32] = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
    return found
