"""A queue in which tenants take turns: whoever sends a thousand requests waits for himself, not the others for him."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Fair(Generic[T]):
    """First in, first out for one tenant; round robin between tenants. Thread-safe."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()  # the first line is the next to be served
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._lines.values()))

    def put(self, tenant: str, *items: T) -> None:
        """All at once: nobody takes the first before the last is there. RuntimeError once it is closed."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the server is stopping")
            self._lines.setdefault(tenant, deque()).extend(items)
            self._changed.notify()

    def put_back(self, taken: Sequence[tuple[str, T]]) -> None:
        """What was taken but not served goes to the front of its line, in its old order."""
        with self._changed:
            for tenant, item in reversed(taken):
                self._lines.setdefault(tenant, deque()).appendleft(item)
            self._changed.notify()

    def take(self) -> tuple[str, T] | None:
        """The next item with its tenant, whose line then goes to the end; waits for one. None once closed and empty."""
        with self._changed:
            while not self._lines and not self._closed:
                self._changed.wait()
            return self._take() if self._lines else None

    def take_if(self, suits: Callable[[T], bool]) -> tuple[str, T] | None:
        """The next item with its tenant, if it suits; does not wait. One that does not suit keeps its turn."""
        with self._changed:
            line = next(iter(self._lines.values()), None)
            return self._take() if line and suits(line[0]) else None

    def take_like(self, like: Callable[[T], bool], most: int) -> list[tuple[str, T]]:
        """Up to ``most`` further items, in turn, of lines whose first item is alike; does not wait."""
        found: list[tuple[str, T]] = []
        with self._changed:
            while len(found) < most:
                tenant = next((t for t, line in self._lines.items() if like(line[0])), None)
                if tenant is None:
                    break
                found.append((tenant, self._pop(tenant)))
        return found

    def close(self) -> None:
        """Take nothing new; what waits is still served."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self) -> tuple[str, T]:
        tenant = next(iter(self._lines))
        return tenant, self._pop(tenant)

    def _pop(self, tenant: str) -> T:
        """The first item of a line, which moves behind the others, or goes when it is empty."""
        line = self._lines.pop(tenant)
        item = line.popleft()
        if line:
            self._lines[tenant] = line
        return item
