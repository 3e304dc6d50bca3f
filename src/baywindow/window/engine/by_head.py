"""Attention head by head, for lookups that give each key/value head tokens of its own number: none of them is padded or masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baywindow.window.block import LOG_TOKENS, Block
from baywindow.window.flash import flash, merge

if TYPE_CHECKING:
    from baywindow.window.engine.layer import LayerRun


def attend_by_head(run: LayerRun, block: Block, q: Tensor, marked: Tensor) -> Tensor | None:
    """The output [1, n, Hq, Dv] of queries ``q`` [1, Hq, n, D], the last n tokens of ``block``, over the slots ``marked`` bool [1, H, L].
    None for a batch, or where more than a softmax over keys at their angles is asked for."""
    if q.shape[0] != 1 or not run.plain or run.has_holes or LOG_TOKENS in block.tags:
        return None
    keys, values, group = block.keys[0], block.values[0], run.layer.group
    outs = []
    for head in range(keys.shape[0]):
        slots = marked[0, head].nonzero()[:, 0]
        k, v = (t[head].index_select(0, slots)[None, None] for t in (keys, values))
        outs.append(_attend(q[:, head * group : (head + 1) * group], k, v, run.layer.scaling))
    return torch.cat(outs, dim=1).transpose(1, 2)


def _attend(q: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """[1, group, n, Dv] of the query heads that share keys [1, 1, m, D], of which the last n are their own."""
    _, group, n, D = q.shape
    past = keys.shape[2] - n
    if n == 1:
        out, _ = flash(q.reshape(1, 1, group, D), keys, values, scaling)
        return out.view(1, group, 1, -1)
    own_keys, own_values = (t[:, :, past:].expand(-1, group, -1, -1) for t in (keys, values))
    own, own_norm = flash(q, own_keys, own_values, scaling, causal=True)
    if not past:
        return own
    out, norm = flash(q.reshape(1, 1, group * n, D), keys[:, :, :past], values[:, :, :past], scaling)
    return merge(out.view(own.shape), norm.view(own_norm.shape), own, own_norm)[0]
