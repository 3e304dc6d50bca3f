"""What `Memory` gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from baywindow.budget import Usage
from baywindow.memory.records import Decision, Recalled, Record, Turn
from baywindow.trace import Region

Listed = Turn | Record


@dataclass(frozen=True)
class Added:
    """Turns that were new, what the system decided on them, remarks for a person, and what its calls cost."""

    turns: tuple[Turn, ...]
    decisions: tuple[Decision, ...]
    notes: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Forgot:
    """Ids of what was taken out: turns, and memories in all their versions."""

    turns: tuple[str, ...]
    records: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.turns or self.records)


@dataclass(frozen=True)
class History:
    """A memory's versions, oldest first, the decisions on them, and the turns they rest on."""

    versions: tuple[Record, ...]
    decisions: tuple[Decision, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Remembered:
    """What to put in a prompt. ``text`` is the fenced block, empty if nothing was found; ``items`` are what it shows, in its order."""

    items: tuple[Recalled, ...]
    text: str
    tokens: int
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Recalled]:
        return iter(self.items)

    @property
    def regions(self) -> tuple[Region, ...]:
        """For the trace: one region a memory, under its id."""
        return tuple(Region(kind="memory", tokens=one.tokens, fate="retrieved", source=f"memory/{one.id}") for one in self.items)
