"""What is searched by meaning: the vectors of items. They are derived, made when they are first needed, and mended when they disagree.

LanceDB keeps them beside SQLite, pgvector inside PostgreSQL; both by the numbers of ``items``, with no text. The vectors of another
embedder are thrown away, never mixed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from baywindow.memory.records import Scope
from baywindow.memory.store.store import Store
from baywindow.memory.store.tables import items, records, turns
from baywindow.memory.store.words import Numbered
from baywindow.models.base import Embedder

EMBEDDER = "embedder"  # the fact that says whose vectors these are
ROUNDS = 3
GROUP = 256  # texts embedded before their vectors are written
CACHED_TEXTS = 2048  # vectors of texts kept in memory: a system compares a text before it is stored


class Vectors(Protocol):
    """Vectors by number, shelf by shelf."""

    def missing(self, shelf: int, *, fresh: bool = False) -> list[int]:
        """Numbers of items without a vector; those without an item are dropped on the way. ``fresh``: others may have made some."""

    def put(self, shelf: int, numbers: Sequence[int], vectors: NDArray[np.float32]) -> None: ...

    def near(self, shelf: int, scope: Scope, kind: str | None, vector: NDArray[np.float32], k: int) -> Numbered:
        """Numbers and cosine similarities, best first."""

    def forget(self, numbers: Sequence[int]) -> None: ...

    def clear(self, dim: int) -> None:
        """Start anew with vectors of this length."""

    def compact(self) -> None:
        """Leave nothing of what was forgotten in any file."""


class Meaning:
    """Embeds, and finds by meaning. ``load`` gives the embedder when it is first needed; MissingExtraError where there is none."""

    def __init__(self, store: Store, load: Callable[[], Embedder], vectors: Vectors) -> None:
        self._store = store
        self._load = load
        self._vectors = vectors
        self._lock = threading.RLock()
        self._cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._complete: dict[int, int] = {}  # shelf → the count of changes at which it had every vector

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (text, dim)."""
        with self._lock:
            new = [t for t in dict.fromkeys(texts) if t not in self._cache]
            fresh = dict(zip(new, self.embedder.embed(new), strict=True)) if new else {}
            found = [fresh[t] if t in fresh else self._cache[t] for t in texts]
            self._cache.update(fresh)
            while len(self._cache) > CACHED_TEXTS:
                self._cache.popitem(last=False)
            return np.stack(found) if found else np.zeros((0, self.embedder.dim), dtype=np.float32)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.embedder.embed([query], "query")[0]
        return found

    def near(self, shelf: int, scope: Scope, query: str, k: int, kind: str | None) -> Numbered:
        """Numbers and cosine similarities of what a shelf holds in a scope, best first."""
        with self._lock:
            self.complete(shelf)
            return self._vectors.near(shelf, scope, kind, self.embed_query(query), k)

    def complete_for(self, user: str, system: str) -> None:
        """Give every turn of a user, and everything a system made of them, its vector."""
        for name in ("", system):
            if (shelf := self._store.shelf(name, user)) is not None:
                self.complete(shelf)

    def complete(self, shelf: int) -> None:
        """Give every item of a shelf its vector."""
        with self._lock:
            changed = self._store.changed
            if self._complete.get(shelf) == changed:
                return
            self._bind()
            if self._vectors.missing(shelf):
                with self._store.database.lock(EMBEDDER):
                    self._embed_missing(shelf)
            self._complete[shelf] = changed

    def forget(self, numbers: Sequence[int]) -> None:
        with self._lock, self._store.database.lock(EMBEDDER):
            self._cache.clear()
            self._vectors.forget(numbers)

    def compact(self) -> None:
        with self._lock, self._store.database.lock(EMBEDDER):
            self._vectors.compact()

    @cached_property
    def embedder(self) -> Embedder:
        return self._load()

    def _bind(self) -> None:
        """The vectors belong to one embedder; those of another are thrown away."""
        own = self.embedder.fingerprint
        if self._store.fact(EMBEDDER) == own:
            return
        with self._store.database.lock(EMBEDDER):
            if self._store.fact(EMBEDDER) != own:
                self._vectors.clear(self.embedder.dim)
                self._store.set_fact(EMBEDDER, own)
                self._complete = {}

    def _embed_missing(self, shelf: int) -> None:
        for turn in range(ROUNDS):  # what could not be read is made again: then there is more to do than was known
            wanted = self._vectors.missing(shelf, fresh=turn == 0)
            for at in range(0, len(wanted), GROUP):
                texts = self._texts(wanted[at : at + GROUP])
                if texts:
                    self._vectors.put(shelf, list(texts), self.embed(list(texts.values())))
            if not wanted:
                return

    def _texts(self, numbers: Sequence[int]) -> dict[int, str]:
        """What each item is found by."""
        with self._store.database.reading() as connection:
            said = sa.select(items.c.n, turns).join(turns, turns.c.id == items.c.id).where(items.c.n.in_(numbers))
            made = sa.select(items.c.n, records.c.text).join(records, records.c.id == items.c.id).where(items.c.n.in_(numbers))
            found = {int(row[0]): f"{row.speaker or row.role}: {row.text}" for row in connection.execute(said)}
            return found | dict(connection.execute(made).all())
