"""What the pattern tests share: a glance with seeded content, and a slow rotary product."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.window.base import LayerInfo, ModelInfo
from baywindow.window.patterns.base import Glance

BASE = 10000.0


def turned(x: Any, at: Any) -> Any:
    """``x`` [B, h, n, D] rotated to ``at`` [B, n] as Llama does: column i and i + D/2 make a pair."""
    half = x.shape[-1] // 2
    angle = at[:, None, :, None].float() * BASE ** (-torch.arange(half) / half)
    cos, sin = (t.repeat(1, 1, 1, 2) for t in (angle.cos(), angle.sin()))
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


def distance_product(q: Any, k: Any, distance: int) -> float:
    """q·k of two vectors at a distance, from the formula: each pair turned by distance × frequency."""
    half, total = len(q) // 2, 0.0
    for i in range(half):
        angle = distance * BASE ** (-i / half)
        even = float(q[i] * k[i] + q[i + half] * k[i + half])
        odd = float(q[i] * k[i + half] - q[i + half] * k[i])
        total += even * math.cos(angle) + odd * math.sin(angle)
    return total


def layer_of(*, heads: int = 2, kv: int = 1, dim: int = 8, softcap: float | None = None) -> LayerInfo:
    return LayerInfo(
        index=0, layer_type="full_attention", sliding_window=None, has_rope=True, q_heads=heads, kv_heads=kv, head_dim=dim,
        value_dim=dim, rotary_dim=dim, scaling=dim**-0.5, softcap=softcap,
    )  # fmt: skip


def info_of(layer: LayerInfo, *, trained: int = 64, arrays: dict[str, Any] | None = None) -> ModelInfo:
    return ModelInfo(name="tiny", layers=(layer,), trained_tokens=trained, vocabulary=10, arrays=arrays or {})


@pytest.fixture(name="turned")
def _turned() -> Callable[..., Any]:
    return turned


@pytest.fixture(name="distance_product")
def _distance_product() -> Callable[..., float]:
    return distance_product


@pytest.fixture(name="layer_of")
def _layer_of() -> Callable[..., LayerInfo]:
    return layer_of


@pytest.fixture(name="info_of")
def _info_of() -> Callable[..., ModelInfo]:
    return info_of


def glance_at(q: Any, k: Any, *, layer: LayerInfo | None = None, state: Any = None) -> Glance:
    """A glance at queries [B, Hq, n, D] that are the last of keys [B, H, L, D]; the values are the keys."""
    layer = layer or layer_of(heads=q.shape[1], kv=k.shape[1], dim=q.shape[3])
    pos = torch.arange(k.shape[2]).expand(q.shape[0], -1)
    keys = k.repeat_interleave(layer.group, dim=1)
    return Glance(
        info=info_of(layer), layer=layer, q=q, k=k, v=k, raw_q=q, raw_k=None, q_pos=pos[:, -q.shape[2] :], k_pos=pos,
        logits=lambda a, b: q[:, :, a:b] @ keys.transpose(2, 3) * layer.scaling, turn=turned, state={} if state is None else state,
    )  # fmt: skip


@pytest.fixture(name="glance_at")
def _glance_at() -> Callable[..., Glance]:
    return glance_at
