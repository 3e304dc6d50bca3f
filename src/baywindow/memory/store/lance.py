"""Vectors in LanceDB, in a folder beside the database, and in memory once a shelf was searched.

A folder that cannot be read is made again from the database: nothing is in it that is not derived. A few megabytes in memory answer in a
millisecond: 50,000 vectors of 384 dimensions take 77 MB and some 5 ms.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from baywindow.documents.bm25 import best_first
from baywindow.documents.index.lance import lancedb
from baywindow.documents.index.nearest import Flat, load_flat
from baywindow.documents.index.store import DISK_FULL, NOTHING_KEPT, OLD_VERSIONS_KEPT
from baywindow.errors import MemoryStoreError
from baywindow.memory.records import Scope
from baywindow.memory.store.store import Store
from baywindow.memory.store.words import Numbered

T = TypeVar("T")
TABLE = "items"
ALL = Scope()  # of a shelf, which is one user's
SMALLEST_BLOCK = 64  # vectors
TIDY_EVERY = 64  # commits: each leaves a small file and an old version


@dataclass
class Growing:
    """Vectors of one shelf in memory. They stand in blocks, each by column as `nearest.by_column` says, and only the last one grows: what
    is there is not moved. Those of items that are gone stay until the next reading.
    """

    numbers: NDArray[np.int64]
    blocks: list[NDArray[np.float32]]
    used: int  # rows of the last block
    gone: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, flat: Flat) -> Growing:
        return cls(flat.ids, [flat.vectors] if len(flat.ids) else [], len(flat.ids))

    def append(self, numbers: Sequence[int], vectors: NDArray[np.float32]) -> None:
        self.numbers = np.concatenate([self.numbers, np.asarray(numbers, np.int64)])
        if not self.blocks or self.used + len(vectors) > len(self.blocks[-1]):
            self.blocks[-1:] = [block[: self.used] for block in self.blocks[-1:]]
            room = max(len(vectors), len(self.numbers) // 4, SMALLEST_BLOCK)
            self.blocks.append(np.empty((room, vectors.shape[1]), np.float32, order="F"))
            self.used = 0
        self.blocks[-1][self.used : self.used + len(vectors)] = vectors
        self.used += len(vectors)

    def scores(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """The cosine similarity of each number's."""
        *whole, last = self.blocks
        return np.concatenate([block @ vector for block in (*whole, last[: self.used])])

    def known(self) -> NDArray[np.int64]:
        return self.numbers[~np.isin(self.numbers, list(self.gone))] if self.gone else self.numbers


class LanceVectors:
    """`meaning.Vectors` in a folder."""

    def __init__(self, store: Store, folder: Path, note: Callable[[str], None]) -> None:
        self._store = store
        self._folder = folder
        self._note = note
        self._table: Any = None
        self._shelves: dict[int, Growing] = {}
        self._dim = 0
        self._versions: dict[int, int] = {}  # of the table, when a shelf was read

    def missing(self, shelf: int, *, fresh: bool = False) -> list[int]:
        wanted = self._store.numbers(shelf, ALL)
        have = self._shelf(shelf, fresh=fresh).known()
        if len(extra := _without(have, wanted)):
            self._shelf(shelf).gone |= set(extra.tolist())
            self._delete(extra.tolist())
        return [int(n) for n in _without(wanted, have)]

    def put(self, shelf: int, numbers: Sequence[int], vectors: NDArray[np.float32]) -> None:
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        columns = {
            "id": pa.array(numbers, pa.int64()),
            "shelf": pa.array([shelf] * len(numbers), pa.int64()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }

        def add() -> None:
            table = self._opened(vectors.shape[1])
            table.add(pa.table(columns))
            version = table.version
            if version % TIDY_EVERY == 0:
                table.optimize(cleanup_older_than=OLD_VERSIONS_KEPT, delete_unverified=True)
                version = table.version
            self._versions[shelf] = version

        self._shelf(shelf)  # as it was before: what is added now is appended to it
        self._done(add)
        self._shelf(shelf).append(numbers, vectors)

    def near(self, shelf: int, scope: Scope, kind: str | None, vector: NDArray[np.float32], k: int) -> Numbered:
        held = self._shelf(shelf)
        if not held.blocks:
            return []
        numbers, scores = held.numbers, held.scores(vector)
        if (scope.agent, scope.session, kind) != (None, None, None):
            inside = np.isin(numbers, self._store.numbers(shelf, scope, kind))
            numbers, scores = numbers[inside], scores[inside]
        best = [(int(numbers[at]), float(scores[at])) for at in best_first(scores, k + len(held.gone))]
        return [(n, score) for n, score in best if n not in held.gone][:k]

    def forget(self, numbers: Sequence[int]) -> None:
        self._shelves = {}
        self._delete(numbers)

    def clear(self, dim: int) -> None:
        self._table, self._shelves = None, {}
        shutil.rmtree(self._folder, ignore_errors=True)
        self._dim = dim

    def compact(self) -> None:
        if self._table is None and not self._folder.is_dir():
            return

        def tidy() -> None:
            if (table := self._opened()) is not None:
                table.optimize(cleanup_older_than=NOTHING_KEPT, delete_unverified=True)

        self._done(tidy)

    # How

    def _shelf(self, shelf: int, *, fresh: bool = False) -> Growing:
        """A shelf in memory; ``fresh``: read again if another process has written since."""
        if (fresh and self._done(lambda: self._behind(shelf))) or shelf not in self._shelves:
            self._shelves[shelf] = Growing.of(self._done(lambda: self._read(shelf)))
        return self._shelves[shelf]

    def _behind(self, shelf: int) -> bool:
        if self._table is None:
            return True
        self._table.checkout_latest()
        return bool(self._table.version != self._versions.get(shelf))

    def _read(self, shelf: int) -> Flat:
        table = self._opened()
        if table is None:
            return Flat(np.zeros(0, np.int64), np.zeros((0, self._dim), np.float32))
        self._versions[shelf] = table.version
        return load_flat(table, None, f"shelf = {shelf}")

    def _delete(self, numbers: Sequence[int]) -> None:
        def delete() -> None:
            table = self._opened()
            if table is not None and numbers:
                table.delete(f"id IN ({', '.join(map(str, numbers))})")

        self._done(delete)

    def _opened(self, dim: int = 0) -> Any:
        """The table; made if ``dim`` is given, else None while there is none."""
        if self._table is not None:
            return self._table
        if not dim and not self._folder.is_dir():
            return None
        database = lancedb().connect(str(self._folder))  # its import takes a second, which a store without vectors need not wait
        if TABLE in database.list_tables().tables:
            self._table = database.open_table(TABLE)
        elif dim:
            fields = [("id", pa.int64()), ("shelf", pa.int64()), ("vector", pa.list_(pa.float32(), dim))]
            self._table = database.create_table(TABLE, schema=pa.schema(fields))
        return self._table

    def _done(self, action: Callable[[], T]) -> T:
        """Something done with LanceDB. A full disk is told; a folder that cannot be used is thrown away and the same done once more."""
        try:
            return action()
        except (OSError, RuntimeError, ValueError) as error:
            if any(sign in str(error).lower() for sign in DISK_FULL):
                raise MemoryStoreError(
                    f"the disk is full: the vectors in {self._folder} cannot grow", hint="free some space; what was said is stored"
                ) from error
            self._note("the vectors could not be read and were made again")
            self.clear(self._dim)
            return action()


def _without(some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of ``some`` that are not among the others, ascending. Mostly the one list, ascending itself, is the beginning of the other."""
    both = min(len(some), len(others))
    if np.array_equal(some[:both], others[:both]):
        return np.sort(some[both:])
    return np.sort(some[~np.isin(some, others)])
