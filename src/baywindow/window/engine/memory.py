"""Handing freed memory back to the operating system.

What a cache drops is freed at once, but glibc keeps blocks of the sizes that prefill works with for later use; the process then looks as
large as at its peak. Trimming once when a prompt is closed makes resident memory follow what is held.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library than glibc
        return None


def give_back() -> None:
    """Return what the C library holds in reserve, where it can be asked to (glibc); elsewhere nothing happens."""
    if (trim := _trim()) is not None:
        trim(0)
