"""States in memory, the least recently used leaving first."""

from __future__ import annotations

import threading
from collections import OrderedDict

from baywindow.models.prefixes import State


class Memory:
    """At most ``most_bytes``; 0 keeps nothing. Thread-safe."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.nbytes = 0
        self._held: OrderedDict[str, State] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._held

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)

    def get(self, name: str) -> State | None:
        """It counts as used now."""
        with self._lock:
            if (state := self._held.get(name)) is not None:
                self._held.move_to_end(name)
            return state

    def put(self, name: str, state: State) -> bool:
        """Whether it is kept. One that is larger than everything is not, and nothing leaves for it."""
        with self._lock:
            if state.nbytes > self.most_bytes:
                return False
            if (old := self._held.pop(name, None)) is not None:
                self.nbytes -= old.nbytes
            while self.nbytes + state.nbytes > self.most_bytes:
                self.nbytes -= self._held.popitem(last=False)[1].nbytes
            self._held[name] = state
            self.nbytes += state.nbytes
            return True
