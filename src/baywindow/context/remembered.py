"""What a memory remembers, put before what the documents say: in the prompt of a reader's last call, whichever reader that is.

This room knows no memory. `ask` is handed one and sees of it only what stands here; the block of text comes fenced and labelled as data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from baywindow.budget import Meter
from baywindow.models.base import LanguageModel, Prompt
from baywindow.registry import Technique
from baywindow.trace import Region


class Block(Protocol):
    """A text for a prompt, empty if nothing was found; what it is made of; remarks for a person."""

    @property
    def text(self) -> str: ...
    @property
    def regions(self) -> tuple[Region, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


class Recollector(Protocol):
    """A memory. ``part`` is the recipe's own memory technique (None: the memory's); the block has at most ``most_tokens``."""

    def recall_for(self, part: Technique | None, question: str, model: LanguageModel, meter: Meter, most_tokens: int) -> Block: ...


@dataclass
class Remembered:
    """The block of one run. ``shown`` says whether a prompt has held it."""

    text: str
    regions: tuple[Region, ...]
    tokens: int
    shown: bool = False

    def before(self, prompt: Prompt) -> Prompt:
        """The prompt with the block at the beginning of its last message."""
        self.shown = True
        *earlier, last = prompt
        return (*earlier, replace(last, content=f"{self.text}\n\n{last.content}"))


def memory_of(parts: Sequence[Technique]) -> tuple[Technique | None, Sequence[Technique]]:
    """The memory that stands first outside, if one does, and the parts behind it."""
    return (parts[0], parts[1:]) if parts and parts[0].card.room == "memory" else (None, parts)
