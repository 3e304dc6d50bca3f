"""What a run tells whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a run stands, for a person who waits. ``left_s`` None: not yet known."""

    text: str
    done: int
    total: int | None
    left_s: float | None


Tell = Callable[[State], None]
