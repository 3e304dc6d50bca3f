"""Where memories are kept: the truth in SQLite or PostgreSQL, and what is derived from it to search."""

from baywindow.memory.store.forgetting import Forgotten
from baywindow.memory.store.store import Store

__all__ = ["Forgotten", "Store"]
