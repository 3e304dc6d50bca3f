"""The contract of the positions room: with which angles a query meets a key.

Keys and queries arrive un-rotated. For every layer of every forward the engine asks the scheme for *branches*; each says where
queries and keys stand on the rotary circle. With one branch that is all. With several, each names the pairs it is for; the
logits of all branches enter one softmax. A scheme whose key angles never change once a key is written says ``fixed = True``:
its keys are rotated when they are stored, which costs nothing later.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from baywindow.window.base import InsideTechnique, LayerInfo, ModelInfo, State

PairMask = Callable[[Tensor, Tensor], Tensor]  # (q positions [B,1,n,1], k positions [B,1|H,1,L]) -> bool, broadcast


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One way of rotating.

    ``q_at`` and ``k_at`` are rotation positions, float or int: [B, n] and [B, L]; a head axis may stand second ([B, Hq, n],
    [B, H or Hq, L]) and a frequency axis last ([B, Hq, n, F] with the head axis present, F = rotary_dim / 2). Values at holes do
    not matter. ``inv_freq`` [F] or [Hq, F] replaces the model's frequencies (in radians a position), ``attention_scaling`` its
    factor inside cos and sin. ``query_scale`` [B, n] or [B, Hq, n] multiplies the logits of a query. ``pairs`` says which pairs this
    branch is for, given positions as they were asked; None means all. The branches of one answer must share out every visible
    pair exactly once.
    """

    q_at: Tensor
    k_at: Tensor
    inv_freq: Tensor | None = None
    attention_scaling: float | None = None
    query_scale: Tensor | None = None
    pairs: PairMask | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the engine asks about: one layer, the queries of this forward, the keys held.

    ``q_pos`` [B, n] and ``k_pos`` [B, L] or [B, H, L] are true positions (int64, −1 in holes). ``q`` [B, Hq, n, D] and ``k``
    [B, H, L, D] are un-rotated; only schemes that look at the content need them. ``inv_freq`` [F] are the model's own
    frequencies for this layer (float32), ``attention_scaling`` its factor. ``longest`` is the largest true position + 1 in the
    batch. ``state`` is this scheme's own for the sequence and layer; it may be written to.
    """

    info: ModelInfo
    layer: LayerInfo
    q_pos: Tensor
    k_pos: Tensor
    q: Tensor
    k: Tensor
    inv_freq: Tensor
    attention_scaling: float
    longest: int
    state: State


class Position(InsideTechnique):
    """A position scheme. It acts on layers with rope; sliding layers stay as they are unless ``on_sliding``."""

    fixed: ClassVar[bool] = False
    on_sliding: ClassVar[bool] = False

    @abstractmethod
    def branches(self, asked: Asked) -> list[Branch]:
        """One or more branches. When ``fixed``, exactly one, with ``pairs`` None and ``k_at`` a function of ``k_pos`` alone; the
        engine then also calls this with the new tokens only (``k_pos`` = ``q_pos``)."""

    def choosing(self, asked: Asked) -> list[Branch] | None:
        """Angles at which a pattern looks for the keys that matter, where those of `branches` would mislead it; None: the same."""
        return None
