"""Exact softmax attention with its log-sum-exp, so that attention over disjoint sets of keys can be merged."""

from __future__ import annotations

import torch
from torch import Tensor


def flash(q: Tensor, keys: Tensor, values: Tensor, scaling: float, *, causal: bool = False) -> tuple[Tensor, Tensor]:
    """Over [B, heads, rows, D]: output [B, heads, rows, Dv] and the log-sum-exp of every row, float32 [B, heads, rows]. PyTorch's CPU
    kernel, which its public function keeps the log-sum-exp of from us, or plain products elsewhere."""
    if q.device.type == "cpu":
        out, norm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, keys, values, 0.0, causal, scale=scaling)
        return out, norm
    logits = (q @ keys.transpose(2, 3)).float() * scaling
    if causal:
        logits.masked_fill_(torch.ones(logits.shape[2:], dtype=torch.bool, device=q.device).triu_(1), -torch.inf)
    norm = logits.logsumexp(dim=-1)
    return (logits - norm[..., None]).exp().to(values.dtype) @ values, norm


def merge(out: Tensor, norm: Tensor, other: Tensor, other_norm: Tensor) -> tuple[Tensor, Tensor]:
    """Attention over two disjoint sets of keys as one. A norm of −inf stands for no keys; not both may."""
    share = torch.sigmoid(norm - other_norm).unsqueeze(-1).to(out.dtype)
    return torch.lerp(other, out, share), torch.logaddexp(norm, other_norm)
