"""What a model keeps of the beginning of a prompt, so that the next prompt which begins alike is not read from its start.

A prompt's beginning is counted in whole blocks of `BLOCK_TOKENS`. On the CPU prompts are read in pieces of just that length, so going
on behind a state that was kept runs the very forwards that reading everything would run, and gives the same reply bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Literal

BLOCK_TOKENS = 256
Level = Literal["exact", "4", "3", "2", "1"]  # how a state lies on disk: exactly, or coded, 1 being the smallest


class State(ABC):
    """What a model holds once it has read the first ``tokens`` of a prompt. Never modified; takes ``nbytes`` of memory."""

    tokens: int
    nbytes: int

    @abstractmethod
    def save(self, folder: Path, level: Level) -> bool:
        """Write it into a new folder. False, and nothing written, for what cannot be kept on disk. OSError if the disk is full."""


Load = Callable[[Path], State]  # raises BayError for what is damaged or belongs to another model


class Prefix(ABC):
    """The beginning of a prompt, and where states of it are kept. ``ids`` are whole blocks; equal ``key``: equal beginnings."""

    ids: tuple[int, ...]
    key: Hashable

    @abstractmethod
    def longest(self, load: Load) -> State | None:
        """The state that spares most of the reading; ``load`` reads one from disk."""

    @abstractmethod
    def keep(self, state: State | None, read_tokens: int, seconds: float) -> None:
        """``read_tokens`` of it were read just now, in so many seconds; ``state`` holds all of it (None: it cannot be kept)."""
