"""Self-Extend for any model whose queries and keys are rotated by position, causal or bidirectional.

Queries and keys reach the attention function already rotated to their positions; rotating them further by the difference to a grouped
position gives what they would be there. Distances up to ``near`` stay as they are; beyond, both sides stand at position // group,
shifted so that the two scales meet.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "baywindow_far"
_here = threading.local()


@dataclass(frozen=True)
class Far:
    """``inv_freq`` (half dim,) of the rotary module; ``near`` and ``group`` in tokens."""

    inv_freq: Tensor
    near: int
    group: int


@contextmanager
def in_place(network: Any, far: Far) -> Iterator[None]:
    """The network attends with grouped far positions inside this block (and this thread)."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
    before = network.config._attn_implementation
    _here.far = far
    network.set_attn_implementation(NAME)
    try:
        yield
    finally:
        network.set_attn_implementation(before)


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any) -> tuple[Tensor, None]:
    """Shapes (row, head, token, dim) in, (row, token, head, dim) out."""
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
    scaling = rest.get("scaling") or query.shape[-1] ** -0.5
    scores = far_scores(query.float(), key.float(), _here.far) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[-2]]
    found = scores.softmax(dim=-1).to(value.dtype) @ value
    return found.transpose(1, 2).contiguous(), None


def far_scores(query: Tensor, key: Tensor, far: Far) -> Tensor:
    """Products of queries and keys, (row, head, query, key), with exact distances near by and grouped ones beyond."""
    at = torch.arange(query.shape[-2], device=query.device)
    grouped, shift = at // far.group, far.near - far.near // far.group
    inv_freq = far.inv_freq.to(query.device)
    plain = query @ key.transpose(-1, -2)
    grouped_key, grouped_query = turned(key, grouped - at, inv_freq), turned(query, grouped - at, inv_freq)
    back = turned(query, grouped + shift - at, inv_freq) @ grouped_key.transpose(-1, -2)  # the key stands before the query
    ahead = grouped_query @ turned(key, grouped + shift - at, inv_freq).transpose(-1, -2)
    distance = at[:, None] - at[None, :]
    return torch.where(distance.abs() < far.near, plain, torch.where(distance > 0, back, ahead))


def turned(states: Tensor, by: Tensor, inv_freq: Tensor) -> Tensor:
    """States (…, token, dim) rotated further by ``by`` (token,) positions; halves are paired, as transformers does it."""
    angles = by[:, None].to(inv_freq.dtype) * inv_freq[None, :]
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-second, first], dim=-1) * sin
