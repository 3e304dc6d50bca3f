"""Lists of the searched tables in memory: read once, after that only what came since.

Items get numbers that only grow, and what is kept of them does not change after that. So a list stays right, and lacks only its end,
until something is taken out or follows its scope; the store counts commits and both of these (`facts`). With 50,000 memories of one user
a frequent word has thousands of rows, and fetching them was most of a search.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from baywindow.memory.store import facts

MOST_NUMBERS = 8_000_000  # of all lists together: 64 MB


class Held:
    """The lists of one store, least recently used dropped first. Safe for several threads."""

    def __init__(self, most_numbers: int = MOST_NUMBERS) -> None:
        self._most = most_numbers
        self._lists: OrderedDict[Hashable, tuple[int, NDArray[np.int64]]] = OrderedDict()  # with the commits they know of
        self._size = 0
        self._taken_out = 0
        self._lock = threading.Lock()

    def look(self, connection: sa.Connection) -> Look:
        """What a transaction sees."""
        return Look(self, connection, *facts.counts(connection))

    def get(self, key: Hashable, taken_out: int) -> tuple[int, NDArray[np.int64]] | None:
        with self._lock:
            if taken_out > self._taken_out:
                self._lists.clear()
                self._size, self._taken_out = 0, taken_out
            if taken_out < self._taken_out or key not in self._lists:  # a transaction that began before something was taken out
                return None
            self._lists.move_to_end(key)
            return self._lists[key]

    def keep(self, key: Hashable, commits: int, taken_out: int, rows: NDArray[np.int64]) -> None:
        with self._lock:
            if taken_out != self._taken_out or rows.size > self._most:
                return
            old = self._lists.pop(key, None)
            self._lists[key] = (commits, rows)
            self._size += rows.size - (old[1].size if old is not None else 0)
            while self._size > self._most:
                self._size -= self._lists.popitem(last=False)[1][1].size


class Look:
    """The lists as one transaction sees them."""

    def __init__(self, held: Held, connection: sa.Connection, commits: int, taken_out: int) -> None:
        self._held, self._connection, self._commits, self._taken_out = held, connection, commits, taken_out

    def rows(self, key: Hashable, query: Callable[[], sa.Select[Any]]) -> NDArray[np.int64]:
        """What a query of whole numbers gives, shape (row, column), ordered by its first column: the number of an item.

        Equal ``key``: equal query, which is only built if something must be read. A list that another transaction made later may hold
        items that this one does not see yet.
        """
        known = self._held.get(key, self._taken_out)
        if known is not None and known[0] >= self._commits:
            return known[1]
        asked = query()
        number, *_ = asked.selected_columns
        ordered = asked.order_by(number)
        if known is None:
            rows = self._read(ordered)
        else:
            rows = known[1]
            new = self._read(ordered.where(number > int(rows[-1, 0])) if len(rows) else ordered)
            rows = np.concatenate([rows, new]) if len(new) else rows
        self._held.keep(key, self._commits, self._taken_out, rows)
        return rows

    def _read(self, asked: sa.Select[Any]) -> NDArray[np.int64]:
        width = len(asked.selected_columns)
        return np.array([tuple(row) for row in self._connection.execute(asked)], dtype=np.int64).reshape(-1, width)
