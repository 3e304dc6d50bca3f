"""The contract of the patterns room: which of the held keys a query may see.

A pattern narrows what the model's own mask allows; it never widens it. It sees true positions, so it stays right after
eviction, under padding and in chunks.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from baywindow.window.base import InsideTechnique
from baywindow.window.positions.base import Asked, Branch


class Pattern(InsideTechnique):
    """A visibility pattern. Sliding layers stay as they are unless ``on_sliding``."""

    on_sliding: ClassVar[bool] = False

    @abstractmethod
    def visible(self, asked: Asked, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        """Which pairs stay: bool, broadcastable to [B, Hq or 1, n, L], from ``q_pos`` [B, 1, n, 1] and ``k_pos`` [B, 1 or H, 1, L].

        Called with any part of the queries (``asked`` always describes all of them). Holes and the future are already
        taken out by the engine.
        """

    @classmethod
    def has_angles(cls) -> bool:
        """Whether this pattern brings angles of its own."""
        return cls.branches is not Pattern.branches

    def branches(self, asked: Asked) -> list[Branch] | None:
        """Angles that belong to the pattern (a capped distance), or None. A pattern that returns some takes the place of a position
        scheme and must refuse one in ``check_with``."""
        return None
