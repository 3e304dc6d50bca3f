"""The contract of the patterns room: which of the held keys a query may see.

A pattern narrows what the model's own mask allows; it never widens it. There are three kinds. A plain `Pattern` says of every pair
whether it stays. A `BlockPattern` names blocks of keys for blocks of queries, and only those are read. An `OwnKernel` computes the
attention itself. The last two work on rows without holes, so they need no care for padding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baywindow.window.base import InsideTechnique, LayerInfo, ModelInfo, State
from baywindow.window.blocks import BlockSelection
from baywindow.window.positions.base import Asked, Branch

Turn = Callable[[Tensor, Tensor], Tensor]


class Pattern(InsideTechnique):
    """A visibility pattern. Sliding layers stay as they are unless ``on_sliding``."""

    on_sliding: ClassVar[bool] = False
    hides_pairs: ClassVar[bool] = True  # `visible` says something
    decodes: ClassVar[bool] = True  # acts on a single new token too
    needs_raw_keys: ClassVar[bool] = False  # True: keys are held un-rotated and rotated at every use
    remembers: ClassVar[bool] = False  # True: keeps of a sequence what cannot be taken back with its last tokens

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

    @classmethod
    def wants_raw_keys(cls) -> bool:
        """Whether keys must be held un-rotated."""
        return cls.needs_raw_keys or cls.has_angles()

    def branches(self, asked: Asked) -> list[Branch] | None:
        """Angles that belong to the pattern (a capped distance), or None. A pattern that returns some takes the place of a position
        scheme and must refuse one in ``check_with``."""
        return None


@dataclass(frozen=True, kw_only=True)
class Glance:
    """One layer of one forward, for patterns that choose blocks. Rows have no holes: slots are ranks (see `window.blocks`), and the
    last n of the L keys are the queries' own.

    ``q`` [B, Hq, n, D] and ``k`` [B, H or Hq, L, D] stand at their angles; where the recipe has several angles a key, at those of their
    true positions. ``raw_q`` is un-rotated; ``raw_k`` too, or None where keys are held rotated (see ``needs_raw_keys``). ``v``
    [B, H, L, Dv]. ``q_pos`` [B, n] and ``k_pos`` [B, L] or [B, H, L] are true positions. ``logits(start, stop)`` are those of query
    rows over all keys at the recipe's angles for choosing, scaled, no mask: float32 [B, Hq, rows, L]. ``turn(x, at)`` brings un-rotated
    vectors [B, h, m, D] to positions ``at`` [B, m]. ``state`` is the pattern's own for this sequence and layer and may be written to; −1
    pads it where rows of a batch differ in size.
    """

    info: ModelInfo
    layer: LayerInfo
    q: Tensor
    k: Tensor
    v: Tensor
    raw_q: Tensor
    raw_k: Tensor | None
    q_pos: Tensor
    k_pos: Tensor
    logits: Callable[[int, int], Tensor]
    turn: Turn
    state: State

    @property
    def n(self) -> int:
        """New tokens."""
        return self.q.shape[2]

    @property
    def length(self) -> int:
        """Held tokens, the new ones included."""
        return self.k.shape[2]

    @property
    def offset(self) -> int:
        """The rank of the first query."""
        return self.length - self.n


class _Reading(Pattern):
    """A pattern that says what is read instead of what is hidden."""

    hides_pairs: ClassVar[bool] = False
    decodes: ClassVar[bool] = False

    def visible(self, asked: Asked, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.bool, device=q_pos.device)


class BlockPattern(_Reading):
    """Names key blocks for query blocks. With ``decodes`` it is asked for single tokens too; else they attend to all that is held."""

    @abstractmethod
    def select(self, glance: Glance) -> BlockSelection | None:
        """What is read before each query block; None for everything."""


class OwnKernel(_Reading):
    """Computes attention in a way that no selection of keys describes."""

    @abstractmethod
    def attend(self, glance: Glance) -> Tensor | None:
        """The output [B, Hq, n, Dv], causal; None to leave it to exact attention. ``glance.k`` has one angle a key: the recipe refuses
        schemes with several. With ``needs_raw_keys`` nothing is turned beforehand: ``glance.q`` and ``glance.k`` are raw too."""
