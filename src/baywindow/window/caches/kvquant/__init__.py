"""KVQuant: keep everything, in 2 to 4 bits with levels where the values are, and the few values that do not fit as they are.

Paper: Hooper and others, 2024, "KVQuant: Towards 10 Million Context Length LLM Inference with KV Cache Quantization",
arXiv 2401.18079; reference code read: SqueezeAILab/KVQuant.

Idea: keys have channels that are always large, and the rotation smears them, so keys are quantised before it, each channel by its own
calibrated range; values by the range of their token. A share ``outlier_fraction`` lies outside the ranges and is kept exactly, as
a sparse list. All channels of a layer share 2^bits levels, found by k-means in which a value weighs as much as the loss feels it (its
squared gradient); with ``q_norm`` the levels are stretched so that what is read has the mean and the spread of what was written. The
first ``sink_tokens`` stay as they are.

Departs from the paper: a value's token range is taken per head, because heads may hold different tokens; so at least the largest and the
smallest value of each is an outlier, 2 of D. Calibration text is cut into pieces of ``sequence_tokens``, 512 and not 2,048: a backward pass
over a large vocabulary needs the memory. With ``calibrated=False`` nothing is prepared: the ranges are those of the tokens packed
together, and the levels those of a normal distribution, as they are.

Shapes and units: codes packed without gaps, bits · D / 8 bytes a token and head; key ranges [H, D] (or [B · H, D]), value ranges [N, 1].

Cost: ``prepare`` runs forward and back over ``samples`` pieces; stopped, it goes on from the last power of two of them.
Each token is packed once and unpacked at every read.

Errors: ConfigError for options out of range; CapabilityError if it was not prepared for the model; SourceError for too short a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baywindow.errors import ConfigError, SourceError
from baywindow.registry import technique
from baywindow.window.base import Calibrated, Calibration, Cost, LayerInfo, ModelInfo, Shape
from baywindow.window.block import Flat
from baywindow.window.caches._bits import packed_bytes
from baywindow.window.caches.base import Packing, Quantiser, Segment
from baywindow.window.caches.kvquant.levels import best_of_each, normal_levels, q_norm
from baywindow.window.caches.kvquant.segment import TINY, Form, KVQuantSegment, beyond, ranges_within

Array = NDArray[np.float32]
BITS = (2, 3, 4)
PARTS = ("keys", "values", "by_key", "by_value")  # what calibration sees of a layer: the last two are gradients


@technique(
    summary="2 to 4 bits with calibrated uneven levels: keys un-rotated by channel, outliers exact",
    paper="arXiv:2401.18079",
    year=2024,
    needs=("weights", "kv"),
    claim="At 3 bits with 1 % outliers perplexity stays near that of fp16, and below that of rotated keys in even levels by token.",
    departures=(
        "the range of a value's token is taken per head: heads may hold different tokens",
        "calibration pieces are 512 tokens by default: a backward pass over a large vocabulary needs the memory",
        "calibrated=False takes ranges from the packed tokens and levels from a normal distribution, for use without preparation",
    ),
    slot="quantise",
)
class KVQuant(Calibrated, Quantiser):
    needs_raw_keys = True

    bits: int = 3
    outlier_fraction: float = 0.01
    sink_tokens: int = 1
    q_norm: bool = True
    calibrated: bool = True  # False: no preparation, at some loss
    samples: int = 16  # pieces of text to calibrate on
    sequence_tokens: int = 512  # of each
    group_tokens: int = 64  # packed at a time
    residual_tokens: int = 0

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ConfigError.bad_value("bits", self.bits, "2, 3 or 4")
        if not 0 <= self.outlier_fraction < 0.5:
            raise ConfigError.bad_value("outlier_fraction", self.outlier_fraction, "at least 0 and below 0.5")
        for name, least in (("sink_tokens", 0), ("samples", 1), ("sequence_tokens", 8), ("group_tokens", 1), ("residual_tokens", 0)):
            if getattr(self, name) < least:
                raise ConfigError.bad_value(name, getattr(self, name), f"at least {least}")

    def ready(self, info: ModelInfo) -> bool:
        return not self.calibrated or super().ready(info)

    # -- packing ------------------------------------------------------------------------------------------------------------

    def encode(self, flat: Flat, at: Packing) -> Segment:
        form = Form(self.bits, flat.keys.shape[1], flat.values.shape[1], self.sink_tokens, flat.keys.dtype)
        device = flat.keys.device
        if self.calibrated:
            arrays, i = at.info.arrays[self.card.name], at.layer.index
            names = ("ranges", f"keys{self.bits}", f"values{self.bits}")
            ranges, keys, values = (torch.from_numpy(arrays[f"{i}.{name}"]).to(device) for name in names)
        else:
            ranges = ranges_within(flat, self.outlier_fraction)
            levels = normal_levels(1 << self.bits, self.outlier_fraction)
            keys = values = torch.from_numpy(np.stack([levels, levels])).float().to(device)
        read = 1 if self.q_norm else 0
        tables = {"key_ranges": ranges, "key_levels": keys[read], "value_levels": values[read]}
        return KVQuantSegment.pack(flat, form, tables, (keys[0], values[0]), beyond(self.outlier_fraction, form.value_dim))

    def cost(self, shape: Shape) -> Cost:
        old = max(0, shape.prompt_tokens - self.residual_tokens) // self.group_tokens * self.group_tokens
        plain = shape.prompt_tokens - old
        dim, half, index = shape.head_dim, 2 if shape.element_bytes == 2 else 4, 1 if shape.head_dim <= 256 else 2
        outlier = index + shape.element_bytes
        key = packed_bytes(dim, self.bits) + 1 + round(self.outlier_fraction * dim * outlier)
        value = packed_bytes(dim, self.bits) + 2 * half + 2 * beyond(self.outlier_fraction, dim) * outlier
        heads = shape.layers * shape.kv_heads
        fixed = heads * 2 * dim * 4 + shape.layers * 2 * (1 << self.bits) * 4 + min(self.sink_tokens, old) * shape.token_bytes
        kept = heads * old * (key + value) + plain * shape.token_bytes + (fixed if old else 0)
        return Cost(flops=8 * heads * old * dim, bytes_kept=kept, bytes_read=kept)

    # -- calibration ----------------------------------------------------------------------------------------------------------

    def calibrated_by(self) -> dict[str, Any]:
        """One preparation serves all bits."""
        return {name: self.options()[name] for name in ("outlier_fraction", "sink_tokens", "samples", "sequence_tokens")}

    def prepare(self, calibration: Calibration) -> dict[str, Array]:
        pieces = torch.split(calibration.ids, self.sequence_tokens, dim=1)[: self.samples]
        if pieces[0].shape[1] < self.sequence_tokens:
            raise SourceError(
                f"the calibration text has {calibration.ids.shape[1]} tokens, one piece needs {self.sequence_tokens}", hint="give more text"
            )
        seen = dict(calibration.load_checkpoint())  # by piece, layer and part: [H, n, D]
        whole = [piece for piece in pieces if piece.shape[1] == self.sequence_tokens]
        layers = [layer.index for layer in calibration.info.full_layers]
        for i, piece in enumerate(whole):
            if f"{i}.{layers[-1]}.{PARTS[-1]}" not in seen:
                self._read(calibration, piece, i, seen)
                if i + 1 < len(whole) and i & (i + 1) == 0:  # 1, 2, 4, … are read: each saving is of everything
                    calibration.save_checkpoint(seen)
        found: dict[str, Array] = {}
        for index in layers:
            keys, values, by_key, by_value = (
                np.concatenate([seen[f"{i}.{index}.{name}"] for i in range(len(whole))], axis=1) for name in PARTS
            )
            found[f"{index}.ranges"], scaled = self._scaled_keys(keys)
            found |= {f"{index}.keys{bits}": levels for bits, levels in levels_for(scaled, by_key)}
            found |= {f"{index}.values{bits}": levels for bits, levels in levels_for(self._scaled_values(values), by_value)}
        return found

    def _read(self, calibration: Calibration, piece: Tensor, i: int, seen: dict[str, Array]) -> None:
        """Forward and back over one piece of text."""
        layers = {layer.index for layer in calibration.info.full_layers}

        def take(layer: LayerInfo, *parts: Tensor) -> None:
            if layer.index in layers:
                for name, part in zip(PARTS, parts, strict=True):
                    seen[f"{i}.{layer.index}.{name}"] = np.ascontiguousarray(part[0, :, self.sink_tokens :].float().cpu().numpy())

        calibration.sensitivity(piece, take)

    def _scaled_keys(self, keys: Array) -> tuple[Array, Array]:
        """Centres and half widths [2, H, D] of the channels of ``keys`` [H, n, D], and the keys by them."""
        share = 50 * self.outlier_fraction
        low, high = np.percentile(keys, [share, 100 - share], axis=1)
        ranges = np.stack([(high + low) / 2, (high - low) / 2]).astype(np.float32)
        return ranges, ((keys - ranges[0][:, None]) / np.maximum(ranges[1][:, None], TINY)).astype(np.float32)

    def _scaled_values(self, values: Array) -> Array:
        """``values`` [H, n, D] by their token's range without its outliers."""
        out = beyond(self.outlier_fraction, values.shape[-1])
        ordered = np.sort(values, axis=-1)
        low, high = ordered[..., out, None], ordered[..., -1 - out, None]
        return ((values - (high + low) / 2) / np.maximum((high - low) / 2, TINY)).astype(np.float32)


def levels_for(scaled: Array, gradients: Array) -> Iterator[tuple[int, Array]]:
    """For each bit width: levels to round to and levels to read [2, 2^bits] for what lies from −1 to 1, weighted by squared gradients."""
    inside = np.abs(scaled) <= 1
    x, weights = scaled[inside].astype(np.float64), gradients[inside].astype(np.float64) ** 2
    found = best_of_each(x, weights if weights.sum() > 0 else np.ones_like(x), [1 << bits for bits in BITS])
    for bits, levels in zip(BITS, found, strict=True):
        yield bits, np.stack([levels, q_norm(x, levels)]).astype(np.float32)
