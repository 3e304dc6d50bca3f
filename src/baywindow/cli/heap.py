"""One heap for a command that does one thing. Imports nothing that could start a thread, for then it would be too late."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # in glibc's malloc.h


def share_one_heap() -> None:
    """Let the threads that start from now on share the first one's heap, where the C library is glibc; elsewhere nothing is done.

    Each would have a heap of its own and keep what it freed there: half of what building the word index of a large folder takes. Not
    for a server, whose threads take memory at the same time and would wait for each other.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    except (OSError, AttributeError):  # another C library: its heaps are its own matter
        return
