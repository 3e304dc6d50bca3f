"""How far a long job is, and an honest guess of the time it still takes: what is left at the pace so far, or nothing yet."""

from __future__ import annotations

import time
from collections.abc import Callable

Tell = Callable[[str], None]
SILENCE_SECONDS = 0.5
FIRST_GUESS_SECONDS = 2.0


class Progress:
    """Counts work in any unit that predicts time (characters, not files) and tells at most twice a second."""

    def __init__(self, what: str, total: float, tell: Tell | None) -> None:
        self._what = what
        self._total = total
        self._tell = tell
        self._done = 0.0
        self._started = time.monotonic()
        self._told = 0.0

    def step(self, amount: float, detail: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if self._tell is not None and now - self._told >= SILENCE_SECONDS:
            self._told = now
            share = min(1.0, self._done / self._total) if self._total else 1.0
            parts = [f"{self._what} {share:.0%}", detail, self.left]
            self._tell(", ".join(p for p in parts if p))

    @property
    def seconds_left(self) -> float | None:
        """None before there is a pace to go by."""
        spent = time.monotonic() - self._started
        if not self._done or spent < FIRST_GUESS_SECONDS:
            return None
        return max(0.0, (self._total - self._done) * spent / self._done)

    @property
    def left(self) -> str:
        return "" if self.seconds_left is None else f"{duration(self.seconds_left)} left"


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
