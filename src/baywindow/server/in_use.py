"""Who is at a vector store's index: readers any number, one writer beside them, and a remover alone.

A reader keeps the version of the tables that it opened, so a writer does not disturb it. Removing also deletes old versions from the
disk, which would take them from under a reader; it waits until there is none, while new readers still come: what was removed is hidden
from them already.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class InUse:
    """Locks by store id. Thread-safe."""

    def __init__(self) -> None:
        self._readers: Counter[str] = Counter()
        self._writers: set[str] = set()
        self._alone: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def reading(self, store: str) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: store not in self._alone)
            self._readers[store] += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[store] -= 1
                if not self._readers[store]:
                    del self._readers[store]
                self._changed.notify_all()

    @contextmanager
    def writing(self, store: str) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: store not in self._writers)
            self._writers.add(store)
        try:
            yield
        finally:
            with self._changed:
                self._writers.discard(store)
                self._changed.notify_all()

    @contextmanager
    def alone(self, store: str) -> Iterator[None]:
        with self.writing(store):
            with self._changed:
                self._changed.wait_for(lambda: not self._readers[store])
                self._alone.add(store)
            try:
                yield
            finally:
                with self._changed:
                    self._alone.discard(store)
                    self._changed.notify_all()
