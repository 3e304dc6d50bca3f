"""What a model keeps of the beginning of a prompt, so that the next prompt which begins alike is not read from its start.

On the CPU prompts are read in pieces of a block (`BLOCK_TOKENS`), the last block of the beginning being cut off where that ends (the
question stands behind it). A state is kept of the whole beginning, and is taken up at its end or at its last whole block. So going on
behind a state runs the very forwards that reading everything would run, and gives the same reply bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Literal

BLOCK_TOKENS = 256
LEAST_TOKENS = 2 * BLOCK_TOKENS  # of a beginning that is worth keeping, and between two that are kept of one prompt
Level = Literal["exact", "4", "3", "2", "1"]  # how a state lies on disk: exactly, or coded, 1 being the smallest


class State(ABC):
    """What a model holds once it has read the first ``tokens`` of a prompt. Never modified; takes ``nbytes`` of memory."""

    tokens: int
    nbytes: int

    def upto(self, tokens: int) -> State | None:
        """What it held after so many of its tokens, sharing its memory; None where that is not known any more."""
        return self if tokens == self.tokens else None

    @abstractmethod
    def save(self, folder: Path, level: Level) -> bool:
        """Write it into a new folder. False, and nothing written, for what cannot be kept on disk. OSError if the disk is full."""


Load = Callable[[Path], State]  # raises BayError for what is damaged or belongs to another model


class Prefix(ABC):
    """The beginning of a prompt, and where states of it are kept. Equal ``key``: equal beginnings; equal ``near``: equal whole blocks."""

    ids: tuple[int, ...]
    key: Hashable
    near: Hashable

    @abstractmethod
    def longest(self, load: Load) -> State | None:
        """The state that spares most of the reading; ``load`` reads one from disk."""

    @abstractmethod
    def keep(self, state: State | None, read_tokens: int, seconds: float) -> None:
        """``read_tokens`` of it were read just now, in so many seconds; ``state`` holds all of it (None: it cannot be kept)."""


def whole_blocks(tokens: int) -> int:
    """The tokens of so many that are whole blocks."""
    return tokens // BLOCK_TOKENS * BLOCK_TOKENS
