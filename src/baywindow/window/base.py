"""The words every room inside the model shares: what a model looks like, what a technique costs, what it calibrates.

Axes are named once, here: B batch, Hq query heads, H key/value heads (Hq = H · group), n new tokens, L held tokens,
D head dimension, F rotary frequencies. Positions count tokens of the sequence from 0; −1 marks a hole (padding, or a slot that
another row or head fills). A technique is an immutable object; what changes per sequence lives in ``dict[str, Tensor]`` states
whose tensors all have the batch as their first axis, so that beam search, copies and saving work without knowing them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from baywindow.registry import Technique

UNLIMITED_TOKENS = 2**31 - 1  # the reach of what works at any length
State = dict[str, Tensor]  # per sequence and layer; every tensor [B, …]
Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """One attention layer as the probe found it."""

    index: int
    layer_type: str  # full_attention, sliding_attention
    sliding_window: int | None
    has_rope: bool
    q_heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    rotary_dim: int  # 2F; 0 without rope
    scaling: float  # multiplies q·k
    softcap: float | None = None
    rope_key: str = ""  # which of the model's rotary tables (Gemma 3 has one per layer type)

    @property
    def group(self) -> int:
        """Query heads per key/value head."""
        return self.q_heads // self.kv_heads

    @property
    def is_sliding(self) -> bool:
        return self.sliding_window is not None


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model as the probe found it."""

    name: str
    layers: tuple[LayerInfo, ...]
    trained_tokens: int  # the window the weights were trained for (before any rope scaling), in tokens
    vocabulary: int
    fingerprint: str = ""
    arrays: Mapping[str, Arrays] = field(default_factory=dict)  # calibrated arrays by technique name

    @property
    def full_layers(self) -> tuple[LayerInfo, ...]:
        return tuple(layer for layer in self.layers if not layer.is_sliding)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a cost is asked for: one sequence on one model."""

    layers: int
    q_heads: int
    kv_heads: int
    head_dim: int
    prompt_tokens: int
    generated_tokens: int = 0
    element_bytes: int = 2

    @property
    def token_bytes(self) -> int:
        """Bytes of the keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.element_bytes

    def attention_flops(self, queries: int, keys: int) -> int:
        """Multiply-adds × 2 of q·k and weights·v for all pairs, all layers."""
        return 4 * self.layers * self.q_heads * self.head_dim * queries * keys


@dataclass(frozen=True, kw_only=True)
class Cost:
    """``flops``: the technique's own work beyond attention over what is held. ``bytes_kept``: keys and values held after the
    prompt. ``bytes_read``: keys and values read by one later token."""

    flops: int
    bytes_kept: int
    bytes_read: int


class InsideTechnique(Technique):
    """Base of positions, patterns and caches."""

    @abstractmethod
    def cost(self, shape: Shape) -> Cost:
        """Closed form, no timing."""

    def reach(self, trained_tokens: int) -> int:
        """The longest sequence in tokens that a model trained on ``trained_tokens`` reads with this; 0: it extends nothing."""
        return 0

    def check_model(self, info: ModelInfo) -> None:
        """Raise CapabilityError, naming the reason, if this cannot work on the model. The default accepts all."""


@dataclass(frozen=True)
class Calibration:
    """What `prepare` may use. ``forward(ids [1, n], observe)`` runs the model over token ids and calls
    ``observe(layer, queries [1, Hq, n, D], keys [1, H, n, D])``, both un-rotated, once a layer; it returns the logits [1, n, V].
    ``sensitivity(ids, take)`` runs forward and back and calls ``take(layer, keys, values, key gradients, value gradients)`` (each
    [1, H, n, D], keys un-rotated) once a layer, with the gradients of the text's mean loss.
    ``ids`` is the text to calibrate on, ``checkpoint`` keeps arrays between runs of an interrupted search.
    """

    info: ModelInfo
    ids: Tensor
    forward: Callable[[Tensor, Callable[[LayerInfo, Tensor, Tensor], None] | None], Tensor]
    sensitivity: Callable[[Tensor, Callable[[LayerInfo, Tensor, Tensor, Tensor, Tensor], None]], None]
    load_checkpoint: Callable[[], dict[str, NDArray[np.float32]]]
    save_checkpoint: Callable[[Mapping[str, NDArray[np.float32]]], None]
    # Mean negative log-likelihood, in nats, of the last so many tokens of ids [1, n] under a technique; 0: all but the first.
    score_with: Callable[[InsideTechnique, Tensor, int], float]
    inv_freq: Tensor  # the model's own frequencies on full-attention layers, float32 [F]
    pair_columns: Tensor  # which frequency each rotated column belongs to, int64 [rotary_dim]


class Calibrated(InsideTechnique):
    """A technique with an offline step. Its arrays reach it as ``info.arrays[card.name]``; without them it refuses."""

    def ready(self, info: ModelInfo) -> bool:
        """Whether it can run: its arrays were found, or its options give them outright."""
        return self.card.name in info.arrays

    def calibrated_by(self) -> dict[str, Any]:
        """The options that its arrays depend on, by default all: parts that differ in others share what was prepared."""
        return self.options()

    @abstractmethod
    def prepare(self, calibration: Calibration) -> dict[str, NDArray[np.float32]]:
        """Arrays to keep, by name. Called by ``bay prepare``; resumable through the calibration's checkpoint."""


def valid(positions: Tensor) -> Tensor:
    """True where a slot holds a token: bool, the shape of ``positions``."""
    return positions >= 0


def heads_of(positions: Tensor, kv_heads: int) -> Tensor:
    """Positions [B, L] or [B, H, L] as [B, H, L] (a view)."""
    return positions if positions.dim() == 3 else positions[:, None, :].expand(-1, kv_heads, -1)


def group_mean(x: Tensor, kv_heads: int) -> Tensor:
    """Per-query-head values [B, Hq, …] averaged over the heads that share a key/value head: [B, H, …]."""
    return x.reshape(x.shape[0], kv_heads, -1, *x.shape[2:]).mean(dim=2)
