"""The beginning that several replies to one prompt share while they are generated. Nothing of it is kept."""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.models.prefixes import Load, Prefix, State, whole_blocks


class ReadOnce(Prefix):
    """Rows with the same one run as a batch of their own, and read it once."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        self.key = self.near = object()

    def in_blocks(self) -> ReadOnce:
        """Its whole blocks alone."""
        return ReadOnce(self.ids[: whole_blocks(len(self.ids))])

    def is_stored(self) -> bool:
        """As good as stored: rows that share it gain by going together, apart from others."""
        return True

    def longest(self, load: Load) -> State | None:
        return None

    def keep(self, state: State | None, read_tokens: int, seconds: float) -> None:
        """It is gone with the batch."""
