"""Keep the longest passages: long ones hold whole arguments.

Shows how a package of its own adds a technique: this file, and one line under ``baywindow.techniques`` in its pyproject.toml.
"""

from __future__ import annotations

from baywindow.context.base import Compressor
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.registry import technique


@technique(room="context/compress", summary="keeps the longest passages")
class LongestFirst(Compressor):
    keep: int = 3  # how many passages stay

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ConfigError.bad_value("keep", self.keep, "at least 1")

    def compress(self, run: Run, passages: list[Passage]) -> list[Passage]:
        kept = sorted(passages, key=lambda p: p.end - p.start, reverse=True)[: self.keep]
        if left_out := len(passages) - len(kept):
            run.note(f"{left_out} shorter passages were left out")
        return kept
