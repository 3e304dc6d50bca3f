"""States in memory, the least recently used leaving first."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict

from baywindow.models.prefixes import State


class Memory:
    """At most ``most_bytes``; 0 keeps nothing. Thread-safe.

    A state goes by its name, and by that of its whole blocks if it can be cut back to them: it is found by either.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.nbytes = 0
        self._held: OrderedDict[str, tuple[State, str]] = OrderedDict()  # with the name of its blocks, or none
        self._by_blocks: defaultdict[str, list[str]] = defaultdict(list)
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._held or name in self._by_blocks

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)

    def get(self, name: str, tokens: int) -> State | None:
        """The state after so many ``tokens``. It counts as used now."""
        with self._lock:
            whole = name if name in self._held else next(iter(self._by_blocks.get(name, ())), None)
            if whole is None:
                return None
            self._held.move_to_end(whole)
            return self._held[whole][0].upto(tokens)

    def put(self, name: str, state: State, blocks: str = "") -> bool:
        """Whether it is kept. One that is larger than everything is not, and nothing leaves for it."""
        with self._lock:
            if state.nbytes > self.most_bytes:
                return False
            if name in self._held:
                self._drop(name)
            while self.nbytes + state.nbytes > self.most_bytes:
                self._drop(next(iter(self._held)))
            self._held[name] = (state, blocks)
            if blocks:
                self._by_blocks[blocks].append(name)
            self.nbytes += state.nbytes
            return True

    def _drop(self, name: str) -> None:
        state, blocks = self._held.pop(name)
        self.nbytes -= state.nbytes
        if blocks:
            self._by_blocks[blocks].remove(name)
            if not self._by_blocks[blocks]:
                del self._by_blocks[blocks]
