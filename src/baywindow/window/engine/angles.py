"""At which angles one layer's queries and keys meet: turned once when they are stored, or at every use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baywindow.window.base import LayerInfo
from baywindow.window.block import Block
from baywindow.window.engine.store import Store
from baywindow.window.patterns.base import Pattern
from baywindow.window.positions.base import Asked, Branch, Position

if TYPE_CHECKING:
    from baywindow.window.engine.runtime import Runtime


class Angles:
    """Of one layer in one forward. ``raw``: keys are held un-rotated."""

    def __init__(self, runtime: Runtime, layer: LayerInfo, store: Store | None) -> None:
        self.runtime, self.layer, self.store, self.parts = runtime, layer, store, runtime.parts
        self.turner = runtime.turner(layer)
        position, pattern = self.parts.position, self.parts.pattern
        self.position: Position | None = position if position is not None and (position.on_sliding or not layer.is_sliding) else None
        self.pattern: Pattern | None = pattern if pattern is not None and (pattern.on_sliding or not layer.is_sliding) else None
        # Sliding layers never reach a cache policy; only a scheme that asks for them can make their keys be held un-rotated.
        moving = (self.position is not None and not self.position.fixed) or (self.pattern is not None and self.pattern.wants_raw_keys())
        self.raw = moving if layer.is_sliding else self.parts.raw

    def new(self, query: Tensor, key: Tensor, q_pos: Tensor) -> tuple[Tensor, Tensor]:
        """New queries and keys at the angles they keep: the model's own, or those of a scheme that never changes them."""
        if self.turner is None:
            return query, key
        position = self.position
        if position is None:
            cos, sin = self.runtime.forward.angles[self.layer.rope_key]
            return self.turner.pair(query, key, cos, sin)
        [branch] = position.branches(self.asked(query, key, q_pos, q_pos))
        q = self.turner.turn(query, branch.q_at, branch.inv_freq, branch.attention_scaling)
        return scaled(q, branch), self.turner.turn(key, branch.k_at, branch.inv_freq, branch.attention_scaling)

    def asked(self, q: Tensor, k: Tensor, q_pos: Tensor, k_pos: Tensor) -> Asked:
        longest = self.runtime.forward.memo.get("longest")
        if longest is None:
            longest = self.runtime.forward.memo["longest"] = int(q_pos.max()) + 1
        name = self.parts.position.card.name if self.parts.position else "positions"
        return Asked(
            info=self.runtime.info,
            layer=self.layer,
            q_pos=q_pos,
            k_pos=k_pos,
            q=q,
            k=k,
            inv_freq=self.turner.inv_freq if self.turner else q.new_zeros(0),
            attention_scaling=self.turner.attention_scaling if self.turner else 1.0,
            longest=longest,
            state=self.store.states.setdefault(name, {}) if self.store is not None else {},
        )

    def branches(self, asked: Asked) -> tuple[list[Branch], Asked]:
        """The recipe's angles for raw keys, and the positions they speak of."""
        for cache in self.parts.caches if not self.layer.is_sliding else ():
            if (moved := cache.renumber(asked)) is not None:
                asked = replace(asked, q_pos=moved[0], k_pos=moved[1])
        pattern, position = self.pattern, self.position
        found = pattern.branches(asked) if pattern is not None else None
        if found is None and position is not None and self.turner is not None:
            found = position.branches(asked)
        return found or [Branch(q_at=asked.q_pos.clamp(min=0), k_at=asked.k_pos.clamp(min=0))], asked

    def keys(self, block: Block) -> Tensor:
        """Keys at their angles, whether they are held so or not."""
        if not self.raw or self.turner is None:
            return block.keys
        position = self.position
        if position is not None and position.fixed:
            [branch] = position.branches(self.asked(block.keys, block.keys, block.positions[:, -1:], block.positions))
            return self.turner.turn(block.keys, branch.k_at, branch.inv_freq, branch.attention_scaling)
        return self.turner.turn(block.keys, block.positions.clamp(min=0))

    def mean_turn(self, at: Tensor) -> Tensor:
        """The mean rotation over positions ``at`` [B, m]: [B, D, D]."""
        if self.turner is None:
            return torch.eye(self.layer.head_dim, device=at.device).expand(at.shape[0], -1, -1)
        return self.turner.mean_matrix(at, self.layer.head_dim)

    def queries_at(self, queries: Tensor, q_pos: Tensor) -> Tensor:
        assert self.turner is not None
        position = self.position
        if position is None:
            return self.turner.turn(queries, q_pos.clamp(min=0))
        [branch] = position.branches(self.asked(queries, queries[:, :: self.layer.group], q_pos, q_pos))
        return scaled(self.turner.turn(queries, branch.q_at, branch.inv_freq, branch.attention_scaling), branch)


def scaled(q: Tensor, branch: Branch) -> Tensor:
    """Queries times the branch's logit scale."""
    if branch.query_scale is None:
        return q
    scale = branch.query_scale
    return q * (scale[:, None, :, None] if scale.dim() == 2 else scale[..., None]).to(q.dtype)
