"""Stored keys and values in some form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from baywindow.window.block import Flat


class Segment(ABC):
    """Stored keys and values in some form. Never modified; rows and heads may hold different counts. Tensors may be shared with other
    segments, of other layers too: they are counted and saved once, if `tensors` gives the same object each time."""

    kinds: ClassVar[dict[str, type[Segment]]] = {}  # by class name: what a saved context may name
    counts: Tensor  # [B, H] tokens, on the CPU

    def __init_subclass__(cls) -> None:
        Segment.kinds[cls.__name__] = cls

    @property
    def kind(self) -> type[Segment]:
        """The class that `restore` belongs to; a segment that wraps another gives the inner one's."""
        return type(self)

    @abstractmethod
    def flat(self) -> Flat:
        """As plain tensors again (for a lossy form: what reading gives)."""

    @abstractmethod
    def rows(self, index: Tensor) -> Segment:
        """Batch rows ``index`` [B']."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that is held, for counting bytes and for saving."""

    @classmethod
    @abstractmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Segment:
        """A segment from what `tensors` gave, for loading and moving."""

    def prefetch(self) -> None:  # noqa: B027 - most lie where they are used
        """The layer before this one is running: start bringing the content back."""


class PlainSegment(Segment):
    """Kept tokens as they are, end to end."""

    def __init__(self, flat: Flat) -> None:
        self._flat = flat
        self.counts = flat.counts

    def flat(self) -> Flat:
        return self._flat

    def rows(self, index: Tensor) -> Segment:
        return PlainSegment(self._flat.rows(index))

    def tensors(self) -> dict[str, Tensor]:
        f = self._flat
        return {"keys": f.keys, "values": f.values, "positions": f.positions, "counts": f.counts}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> PlainSegment:
        return cls(Flat(**tensors))
