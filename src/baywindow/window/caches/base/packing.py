"""Caches that pack tokens, and what they see of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from baywindow.window.base import LayerInfo, ModelInfo
from baywindow.window.block import Flat
from baywindow.window.caches.base.policy import CachePolicy
from baywindow.window.caches.base.segment import Segment


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What a policy sees when tokens of one layer are packed. ``watched()`` gives the last queries of the prompt [B, Hq, w, D], turned as
    the layer's keys are held, with their positions [B, w] (−1: none); w = `CachePolicy.query_window`."""

    info: ModelInfo
    layer: LayerInfo
    watched: Callable[[], tuple[Tensor, Tensor]]


Encode = Callable[[Flat, Packing], Segment]


class Quantiser(CachePolicy):
    """Packs tokens. The engine keeps at least ``residual_tokens`` recent ones as they are and hands over the older ones in whole
    groups of ``group_tokens`` per row and head, in order of position."""

    residual_tokens: int
    group_tokens: int

    @abstractmethod
    def encode(self, flat: Flat, at: Packing) -> Segment:
        """Packed; every count in ``flat.counts`` is a multiple of ``group_tokens``."""


class Mover(CachePolicy):
    """Says where held tensors lie between uses. New tokens stay where they are until there are ``group_tokens`` of them."""

    group_tokens: int

    @abstractmethod
    def put(self, segment: Segment, device: torch.device) -> Segment:
        """The same content, placed; `Segment.flat` brings it back to ``device``."""
