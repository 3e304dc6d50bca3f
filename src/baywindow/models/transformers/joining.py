"""Rows that leave a running batch, and rows that join it, over stock caches: continuous batching.

All rows end in the same column, so a shorter one has padding on its left. Who joins is read apart, in its own cache, and its columns are
then set beside the others'. Who leaves takes with it the columns that were padding for all that stay.

Source: iteration-level scheduling of Orca (Yu et al., OSDI 2022). Here the newcomers' prompts are not mixed into the forward of a step
but read by pieces between two steps: one forward of unlike rows would pad every step to the length of a piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from baywindow.models.transformers.loop import Flight


@torch.inference_mode()
def joined(flight: Flight, others: Flight) -> Flight:
    """Both as one, the ``others`` behind; neither can be used by itself afterwards."""
    columns = max(flight.mask.shape[1], others.mask.shape[1])
    for ours, theirs in zip(flight.cache.layers, others.cache.layers, strict=True):
        width = _width(ours, columns)
        ours.keys = torch.cat([_widened(ours.keys, width), _widened(theirs.keys, width)])
        ours.values = torch.cat([_widened(ours.values, width), _widened(theirs.values, width)])
        _count(ours, columns)
    masks = [pad(mask, (columns - mask.shape[1], 0)) for mask in (flight.mask, others.mask)]
    return Flight(flight.cache, torch.cat(masks), torch.cat([flight.logits, others.logits]))


@torch.inference_mode()
def left(flight: Flight, staying: Sequence[int]) -> Flight:
    """Those rows alone, in this order."""
    rows = torch.tensor(staying, device=flight.mask.device)
    mask = flight.mask[rows]
    mask = mask[:, int(mask.any(dim=0).int().argmax()) :]
    columns = mask.shape[1]
    for layer in flight.cache.layers:
        first = layer.keys.shape[2] - _width(layer, columns)
        layer.keys, layer.values = layer.keys[rows, :, first:], layer.values[rows, :, first:]
        _count(layer, columns)
    return Flight(flight.cache, mask, flight.logits[rows])


def _width(layer: Any, columns: int) -> int:
    """How many of so many columns a layer holds: a sliding one the last ones, those that the next token still sees."""
    return min(columns, layer.sliding_window - 1) if layer.is_sliding else columns


def _widened(held: Tensor, width: int) -> Tensor:
    """Padding in front: [B, H, L, D] to [B, H, ``width``, D]."""
    return pad(held, (0, 0, width - held.shape[2], 0))


def _count(layer: Any, columns: int) -> None:
    """A sliding layer counts what it has seen; another has all of it."""
    if layer.is_sliding:
        layer.cumulative_length = columns
