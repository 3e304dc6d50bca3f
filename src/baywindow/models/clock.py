"""The deadline of one call."""

from __future__ import annotations

import time


class Clock:
    """Starts when it is first asked, so that a stream nobody reads yet loses no time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end: float | None = None

    def left(self) -> float:
        """Seconds left, never negative; infinite without a deadline."""
        now = time.monotonic()
        if self._end is None:
            self._end = now + self._seconds
        return max(0.0, self._end - now)

    def running(self) -> bool:
        return self.left() > 0.0
