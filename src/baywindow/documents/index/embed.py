"""The embedding job: gives every chunk without a vector its vector. It can stop at any time and go on another time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from baywindow.documents.index.rows import FILE_BITS, vector_rows
from baywindow.documents.index.store import Store
from baywindow.documents.progress import Progress, Tell
from baywindow.models.base import Embedder

# Chunks embedded together are sorted by length inside the embedder; more of them pad less, fewer show progress sooner.
GROUP = 128
COMMIT_SECONDS = 10.0


def embed_missing(store: Store, embedder: Embedder, ids: NDArray[np.int64], *, seconds: float, tell: Tell | None = None) -> int:
    """Embeds the chunks ``ids`` in order, for at most about ``seconds``; how many were left. Only under the writer's lock.

    Vectors are committed every few seconds, and whatever ends the job (a deadline, Ctrl-C, an error of the embedder) those that were
    computed are committed first.
    """
    table = store.vectors(embedder.dim)
    if table is None or not len(ids):
        return 0
    progress = Progress("embedding", len(ids), tell)
    started = committed = time.monotonic()
    waiting: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    done = 0
    try:
        for group, texts in _groups(store, ids):
            waiting.append((group, embedder.embed(texts)))
            done += len(group)
            progress.step(len(group), f"{done} of {len(ids)} chunks")
            if time.monotonic() - committed > COMMIT_SECONDS:
                _commit(store, waiting)
                committed = time.monotonic()
            spent = time.monotonic() - started
            if spent * (1 + len(group) / done) > seconds:
                break  # the next group would end too late
    finally:
        _commit(store, waiting)
    return len(ids) - done


def missing_ids(store: Store, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Chunks of the given files that have no vector, in order."""
    with store.translated():
        chunks = store.table("chunks").search().where("path IS NULL").select(["id"]).to_arrow()["id"].to_numpy()
        table = store.vectors()
        have = table.search().select(["id"]).to_arrow()["id"].to_numpy() if table is not None else np.zeros(0, np.int64)
    wanted = chunks[np.isin(chunks >> FILE_BITS, numbers)]
    found: NDArray[np.int64] = np.setdiff1d(wanted, have)
    return found


def _groups(store: Store, ids: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
    table = store.table("chunks")
    for at in range(0, len(ids), GROUP):
        group = ids[at : at + GROUP]
        with store.translated():
            condition = f"id IN ({', '.join(map(str, group))})"
            rows = table.search().where(condition).select(["id", "text"]).limit(len(group)).to_arrow()
        texts = dict(zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True))
        yield group, [texts[int(i)] for i in group]


def _commit(store: Store, waiting: list[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> None:
    if not waiting:
        return
    rows = vector_rows(np.concatenate([ids for ids, _ in waiting]), np.concatenate([vectors for _, vectors in waiting]))
    with store.translated():
        store.table("vectors").add(rows)
    waiting.clear()
