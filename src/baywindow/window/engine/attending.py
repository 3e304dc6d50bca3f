"""One layer's attention of one forward: who meets whom, at which angles, and the kernels that compute it.

Three kernels give the same answer. The model's own (SDPA or eager) runs whenever one rotation and one mask say it all; `folded` does
its work for a single token without repeating keys; a row-blocked eager kernel runs several branches through one softmax, and is
also what policies read attention weights from. The eager one is the specification of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from baywindow.window.base import LayerInfo
from baywindow.window.block import LOG_TOKENS, Block
from baywindow.window.engine.rotary import Turner
from baywindow.window.positions.base import Asked, Branch

ROWS = 128  # query rows the eager kernel holds logits for at once
Allowed = Callable[[int, int], Tensor]


@dataclass(eq=False)
class Attending:
    """``q`` [B, Hq, n, D] un-rotated, or rotated when ``branches`` is None (then ``block.keys`` are rotated too). ``query`` is un-rotated
    in any case, ``q_pos`` [B, n] where it stands (−1: padding).

    ``asked`` holds the positions the branches speak of. ``allowed(start, stop)`` gives bool [B, 1 | H | Hq, rows, L].
    """

    layer: LayerInfo
    q: Tensor
    block: Block
    allowed: Allowed
    branches: Sequence[Branch] | None
    asked: Asked | None
    turner: Turner | None
    query: Tensor
    q_pos: Tensor
    weigh: Callable[[Tensor], Tensor] | None = None  # logits with −inf where hidden, changed before the softmax
    _keys: list[Tensor] = field(default_factory=list)

    def weights(self, start: int, stop: int) -> Tensor:
        """Softmax weights of query rows ``start`` to ``stop``: float32 [B, Hq, rows, L], 0 in holes and where nothing is visible.

        Passes over tensors of that size are what this costs, so there are as few as may be.
        """
        held = self.block.positions >= 0
        held = held[:, None] if held.dim() == 2 else held
        allowed, held = self.allowed(start, stop), held.unsqueeze(2)
        if allowed.dim() == 4 and {allowed.shape[1], held.shape[1]} == {self.layer.q_heads, self.layer.kv_heads}:
            allowed, held = (
                by_query_head(allowed, self.layer),
                by_query_head(held, self.layer),
            )  # a pattern per query head, a cache per head
        mask = by_query_head(allowed & held, self.layer)
        logits = self.logits(start, stop)
        if (stands_for := self.block.tags.get(LOG_TOKENS)) is not None:
            logits = logits + by_query_head(stands_for.unsqueeze(2), self.layer)
        logits = logits.masked_fill_(~mask, -torch.inf)
        weights = torch.softmax(logits if self.weigh is None else self.weigh(logits), dim=-1)
        return weights if bool(mask.any(dim=-1).all()) else weights.nan_to_num(0.0)

    def logits(self, start: int, stop: int) -> Tensor:
        """Scaled logits before any mask: float32 [B, Hq, rows, L]."""
        if self.branches is None:
            return self._cap(dot(self.q[:, :, start:stop], self.block.keys).mul_(self.layer.scaling))
        merged: Tensor | None = None
        for i, branch in enumerate(self.branches):
            one = dot(self.turned_q(branch, start, stop), self._turned_k(i)).mul_(self.layer.scaling)
            if branch.query_scale is not None:
                scale = branch.query_scale[..., start:stop]
                one = one * (scale[:, None, :, None] if scale.dim() == 2 else scale[..., None])
            merged = one if merged is None else torch.where(self._pairs(branch, start, stop), one, merged)
        assert merged is not None
        return self._cap(merged)

    def run(self) -> Tensor:
        """The output [B, n, Hq, Dv], block of rows by block of rows."""
        n, values = self.q.shape[2], self.block.values
        out = self.q.new_empty(*self.q.shape[:3], values.shape[-1])
        for start in range(0, n, ROWS):
            stop = min(n, start + ROWS)
            weights = self.weights(start, stop).to(values.dtype)
            grouped = by_kv_head(weights, values.shape[1])
            out[:, :, start:stop] = (grouped @ values.unsqueeze(2)).flatten(1, 2)
        return out.transpose(1, 2).contiguous()

    def turned_q(self, branch: Branch, start: int, stop: int) -> Tensor:
        """Queries of these rows at the branch's angles."""
        q = self.q[:, :, start:stop]
        if self.turner is None:
            return q
        at = rows_of(branch.q_at, start, stop)
        return self.turner.turn(q, at, branch.inv_freq, branch.attention_scaling)

    def turned_k(self, branch: Branch) -> Tensor:
        """Keys at the branch's angles: [B, H or Hq, L, D]."""
        keys = self.block.keys
        if self.turner is None:
            return keys
        by_query = (branch.inv_freq is not None and branch.inv_freq.dim() == 2) or (
            branch.k_at.dim() > 2 and branch.k_at.shape[1] == self.layer.q_heads != self.layer.kv_heads
        )
        if by_query:
            keys = keys.repeat_interleave(self.layer.group, dim=1)
        k_at = branch.k_at
        if k_at.dim() > 2 and k_at.shape[1] not in (1, keys.shape[1]):
            k_at = k_at.repeat_interleave(keys.shape[1] // k_at.shape[1], dim=1)
        return self.turner.turn(keys, k_at, branch.inv_freq, branch.attention_scaling)

    def _turned_k(self, i: int) -> Tensor:
        assert self.branches is not None
        while len(self._keys) <= i:
            self._keys.append(self.turned_k(self.branches[len(self._keys)]))
        return self._keys[i]

    def _pairs(self, branch: Branch, start: int, stop: int) -> Tensor:
        assert self.asked is not None
        if branch.pairs is None:
            return torch.ones((), dtype=torch.bool, device=self.q.device)
        q, k = pair_positions(self.asked.q_pos[:, start:stop], self.asked.k_pos)
        return by_query_head(branch.pairs(q, k), self.layer)

    def _cap(self, logits: Tensor) -> Tensor:
        cap = self.layer.softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap


def folded(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """One query token: the query heads [B, Hq, 1, D] that share a key/value head attend as rows of it, so no kernel repeats or re-reads
    keys [B, H, L, D]. ``mask`` [B or 1, 1 | H | Hq, 1, L] or None. Gives [B, 1, Hq, Dv]."""
    B, Hq, _, D = q.shape
    H = keys.shape[1]
    rows = q.reshape(B, H, Hq // H, D)
    if mask is not None and mask.shape[1] == Hq:
        mask = mask.reshape(mask.shape[0], H, Hq // H, -1)
    out = torch.nn.functional.scaled_dot_product_attention(rows, keys, values, attn_mask=mask, scale=scaling)
    return out.reshape(B, 1, Hq, values.shape[-1])


def pair_positions(q_pos: Tensor, k_pos: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 1, n, 1] and [B, 1 or H, 1, L]."""
    return q_pos[:, None, :, None], (k_pos if k_pos.dim() == 3 else k_pos[:, None, :])[:, :, None, :]


def by_query_head(mask: Tensor, layer: LayerInfo) -> Tensor:
    """A mask per key/value head repeated for the query heads that share it; a head axis of 1 stays."""
    if mask.dim() < 4 or mask.shape[1] in (1, layer.q_heads):  # one mask for all heads stays one, also where there is one key/value head
        return mask
    return mask.repeat_interleave(layer.group, dim=1)


def rows_of(at: Tensor, start: int, stop: int) -> Tensor:
    """The query rows of a position tensor [B, n], [B, h, n] or [B, h, n, F]."""
    return at[:, start:stop] if at.dim() == 2 else at[:, :, start:stop]


def dot(q: Tensor, k: Tensor) -> Tensor:
    """q·k for all pairs in float32: [B, Hq, n, L] from [B, Hq, n, D] and [B, H or Hq, L, D]."""
    if q.shape[1] == k.shape[1]:
        return (q @ k.transpose(2, 3)).float()
    rows = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])  # those of a group one behind another, so that no key is repeated
    return (rows @ k.transpose(2, 3)).view(*q.shape[:3], -1).float()


def by_kv_head(x: Tensor, kv_heads: int) -> Tensor:
    """[B, Hq, …] as [B, H, group, …]."""
    return x.reshape(x.shape[0], kv_heads, -1, *x.shape[2:])
