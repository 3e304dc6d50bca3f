"""How many requests a key may send: a bucket that fills evenly over a minute."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from baywindow.server.errors import ApiError

MOST_TENANTS = 10_000  # remembered; the fullest buckets are forgotten first, which costs nobody anything


class Rates:
    """``per_minute`` 0: no limit. ``clock`` gives seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._left: dict[str, tuple[float, float]] = {}  # tenant to requests left, and when that was
        self._lock = threading.Lock()

    def take(self, tenant: str) -> None:
        """One request. ApiError 429 with the seconds until the next one is allowed."""
        if not self._per_minute:
            return
        now = self._clock()
        with self._lock:
            left, since = self._left.get(tenant, (float(self._per_minute), now))
            left = min(self._per_minute, left + (now - since) * self._per_minute / 60)
            self._left[tenant] = (left - 1 if left >= 1 else left, now)
            if len(self._left) > MOST_TENANTS:
                self._left = dict(sorted(self._left.items(), key=lambda pair: pair[1][0])[: MOST_TENANTS // 2])
        if left < 1:
            wait = max(1, math.ceil((1 - left) * 60 / self._per_minute))
            raise ApiError(
                429,
                f"more than {self._per_minute} requests a minute with this key",
                hint=f"try again in {wait} s",
                code="rate_limit_exceeded",
                retry_after_s=wait,
            )
