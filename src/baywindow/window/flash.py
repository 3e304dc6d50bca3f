"""Exact softmax attention with its log-sum-exp, so that attention over disjoint sets of keys can be merged."""

from __future__ import annotations

import torch
from torch import Tensor

TILE = 32  # keys: PyTorch's CPU kernel takes longer for a part of a tile than for a whole one


def flash(
    q: Tensor, keys: Tensor, values: Tensor, scaling: float, *, causal: bool = False, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Over [B, heads, rows, D]: output [B, heads, rows, Dv] and the log-sum-exp of every row, float32 [B, heads, rows]. ``bias`` [rows, L]
    float32 is added to the logits. PyTorch's CPU kernel, which its public function keeps the log-sum-exp of from us, or plain products
    elsewhere."""
    if q.device.type == "cpu":
        mask = None if bias is None else bias[None, None]
        out, norm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, keys, values, 0.0, causal, attn_mask=mask, scale=scaling)
        return out, norm
    logits = (q @ keys.transpose(2, 3)).float() * scaling
    if bias is not None:
        logits += bias
    if causal:
        logits.masked_fill_(torch.ones(logits.shape[2:], dtype=torch.bool, device=q.device).triu_(1), -torch.inf)
    norm = logits.logsumexp(dim=-1)
    return (logits - norm[..., None]).exp().to(values.dtype) @ values, norm


def tile_for(rows: int) -> int:
    """To a multiple of how many the keys that ``rows`` queries read should be filled up: 1 where a tile is more than the queries' own
    block."""
    return TILE if rows >= TILE else 1


def merge(out: Tensor, norm: Tensor, other: Tensor, other_norm: Tensor) -> tuple[Tensor, Tensor]:
    """Attention over two disjoint sets of keys as one. A norm of −inf stands for no keys; not both may."""
    share = torch.sigmoid(norm - other_norm).unsqueeze(-1).to(out.dtype)
    return torch.lerp(other, out, share), torch.logaddexp(norm, other_norm)


def merge_into(out: Tensor, norm: Tensor, other: Tensor, other_norm: Tensor) -> None:
    """The same, written to ``out``; the log-sum-exp is not worked out."""
    share = torch.sigmoid(other_norm - norm).unsqueeze(-1).to(out.dtype)
    out.lerp_(other, share)
