"""What all caches share, and what they see of a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from baywindow.window.base import InsideTechnique, LayerInfo, ModelInfo, State
from baywindow.window.block import Block
from baywindow.window.positions.base import Asked

Phase = Literal["prefill", "decode"]
SURPRISAL = "surprisal"  # the tag that `CachePolicy.reads_surprisal` asks for


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One layer's attention of one forward, for policies that watch. ``weights(start, stop)`` computes the softmax weights of these
    queries over everything held, [B, Hq, stop − start, L] float32 (0 in holes): nobody pays who does not call it.

    ``queries`` [B, Hq, n, D] un-rotated, ``q_pos`` [B, n] (−1: padding). ``block`` is what is held, new tokens last.
    ``state`` and ``tags`` ([B, H, L] each, aligned with ``block``; dropped and reordered with the tokens) may be written to.
    """

    layer: LayerInfo
    phase: Phase
    queries: Tensor
    q_pos: Tensor
    block: Block
    weights: Callable[[int, int], Tensor]
    state: State
    tags: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a policy sees when it is asked to act on one layer.

    ``seen`` [B] counts the tokens a row has had so far, those kept out by ``protect_from`` (a true position per row [B], or None:
    the question) not counted. ``queries`` [B, Hq, w, D] are the last un-rotated queries of what is being compressed, w =
    `CachePolicy.query_window`, at ``q_pos`` [B, w] (−1: none). ``weights(queries, q_pos, block)`` gives their softmax weights
    over a block, [B, Hq, w, L] float32, with the recipe's own angles and masks. ``keys(block)`` are its rotated keys [B, H, L, D],
    however they are held; ``turn(at)`` is the mean rotation over positions ``at`` [B, m] as a matrix [B, D, D] that multiplies row
    vectors from the right, float32. Both use the model's own frequencies (those of a ``fixed`` scheme where the recipe has one).
    ``shared`` passes from layer to layer of one forward, first to last, and is then forgotten; it may be written to.
    """

    info: ModelInfo
    layer: LayerInfo
    phase: Phase
    seen: Tensor
    protect_from: Tensor | None
    queries: Tensor
    q_pos: Tensor
    weights: Callable[[Tensor, Tensor, Block], Tensor]
    keys: Callable[[Block], Tensor]
    turn: Callable[[Tensor], Tensor]
    state: State
    shared: State = field(default_factory=dict)

    def protected(self, block: Block) -> Tensor:
        """Where the question stands: bool [B, H, L]."""
        if self.protect_from is None:
            return torch.zeros(block.head_positions.shape, dtype=torch.bool, device=block.keys.device)
        return block.head_positions >= self.protect_from[:, None, None]


class CachePolicy(InsideTechnique):
    """What all roles share. ``slot`` in the card is the role: reduce, allocate, narrow, join, quantise or move."""

    needs_raw_keys: ClassVar[bool] = False  # True: keys are held un-rotated and rotated at every use
    watches: ClassVar[bool] = False  # True: `watch` is called after every attention
    reads_surprisal: ClassVar[bool] = False  # True: every token of a tail gets the tag `SURPRISAL`, −log p in nats, after its forward

    def query_window(self) -> int:
        """How many of the last queries to keep for `Moment.queries`."""
        return 0

    def watch(self, seen: Seen) -> None:
        """See one layer's attention; write to ``seen.state`` or ``seen.tags``."""

    def renumber(self, asked: Asked) -> tuple[Tensor, Tensor] | None:
        """Positions inside the cache for queries and keys (the shapes of ``asked.q_pos`` and ``asked.k_pos``), or None for the true
        ones. A position scheme then works on these. Needs ``needs_raw_keys``; masks keep using true positions."""
        return None


def options_of(part: Any) -> str:
    """How a report names a technique."""
    return f"{part.card.name}({', '.join(f'{k}={v!r}' for k, v in part.options().items() if v is not None)})"
