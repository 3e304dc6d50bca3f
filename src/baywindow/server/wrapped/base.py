"""How a request ends what runs for it."""

from __future__ import annotations

import threading


class Cancelled(Exception):  # noqa: N818 - an event, not a fault
    """The client is gone, or the server stops: what was under way for it ends."""


def check(cancelled: threading.Event) -> None:
    """Raise `Cancelled` where that is so."""
    if cancelled.is_set():
        raise Cancelled
