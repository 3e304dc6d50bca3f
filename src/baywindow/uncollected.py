"""Imports of large libraries without the cycle collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Put the cycle collector off for the block, if it is on. For imports: they make millions of objects that stay, and looking for
    cycles among them over and over takes about a tenth of their time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
