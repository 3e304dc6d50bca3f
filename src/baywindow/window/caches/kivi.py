"""KIVI: keep everything, in 2 or 4 bits: keys by channel, values by token.

Paper: Liu and others, 2024, "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", arXiv 2402.02750; reference code read:
jy-yuan/KIVI.

Idea: a few channels of the keys are always large, so keys are quantised per channel over groups of ``group_tokens`` tokens; values
have no such channels and are quantised per token over groups of channels. The last ``residual_tokens`` stay as they are.

Departs from the paper: keys and values keep the same recent tokens in full (the paper's keys keep the length modulo the residual), so
that one set of positions serves both; at least as many stay in full. Scales and minima are float16 for half-precision models, as in
the reference code, and float32 for float32 models.

Shapes and units: codes are packed into bytes, 8 / bits to a byte: keys [groups, D, group_tokens · bits / 8], values
[tokens, Dv · bits / 8]; tokens of all rows and heads lie end to end, so heads may hold different numbers.

Cost: each token is packed once and unpacked at every read.

Errors: ConfigError for other bit widths, or a group that does not fill whole bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Flat, token_spans
from baywindow.window.caches.base import Packing, Quantiser, Segment


@technique(
    summary="keep all tokens in 2 or 4 bits: keys by channel, values by token",
    paper="arXiv:2402.02750",
    year=2024,
    needs=("weights", "kv"),
    claim="Keys quantised per channel and values per token lose less than the other way round at the same bits.",
    departures=(
        "keys and values keep the same recent tokens in full, so that one set of positions serves both",
        "scales and minima are float32 for float32 models",
    ),
    slot="quantise",
)
class KIVI(Quantiser):
    bits: int = 2
    group_tokens: int = 32
    group_channels: int = 32  # of the values; the largest divisor of the head dimension within it is used
    residual_tokens: int = 128

    def __post_init__(self) -> None:
        if self.bits not in (2, 4, 8):
            raise ConfigError.bad_value("bits", self.bits, "2, 4 or 8")
        if self.group_tokens < 1 or self.group_tokens * self.bits % 8:
            raise ConfigError.bad_value("group_tokens", self.group_tokens, f"a multiple of {8 // math.gcd(8, self.bits)}")
        if self.residual_tokens < 0:
            raise ConfigError.bad_value("residual_tokens", self.residual_tokens, "0 or more")
        if self.group_channels < 1:
            raise ConfigError.bad_value("group_channels", self.group_channels, "at least 1")

    def encode(self, flat: Flat, at: Packing | None = None) -> Segment:
        keys = flat.keys.reshape(-1, self.group_tokens, flat.keys.shape[-1]).transpose(1, 2)  # [groups, D, group_tokens]
        channels = math.gcd(self.group_channels, flat.values.shape[-1])
        values = flat.values.reshape(flat.values.shape[0], -1, channels)  # [tokens, groups, channels]
        return KIVISegment(
            keys=quantise(keys, self.bits),
            values=quantise(values, self.bits),
            positions=flat.positions,
            counts=flat.counts,
            dtype=flat.keys.dtype,
            shape=(self.group_tokens, channels, self.bits),
        )

    def cost(self, shape: Shape) -> Cost:
        packed = max(0, shape.prompt_tokens - self.residual_tokens) // self.group_tokens * self.group_tokens
        plain = shape.prompt_tokens - packed
        heads = shape.layers * shape.kv_heads
        channels = math.gcd(self.group_channels, shape.head_dim)
        half = 2 if shape.element_bytes == 2 else 4
        codes = 2 * heads * packed * shape.head_dim * self.bits // 8
        scales = 2 * half * heads * (packed // self.group_tokens * shape.head_dim + packed * shape.head_dim // channels)
        kept = codes + scales + plain * shape.token_bytes
        return Cost(flops=6 * heads * packed * shape.head_dim, bytes_kept=kept, bytes_read=kept)


@dataclass(frozen=True)
class Packed:
    """``codes`` uint8 [..., n · bits / 8], ``scale`` and ``low`` [..., 1] of each group (the last axis)."""

    codes: Tensor
    scale: Tensor
    low: Tensor

    def at(self, index: Tensor) -> Packed:
        return Packed(self.codes[index], self.scale[index], self.low[index])


class KIVISegment(Segment):
    """Packed tokens of all rows and heads, end to end."""

    def __init__(
        self, *, keys: Packed, values: Packed, positions: Tensor, counts: Tensor, dtype: torch.dtype, shape: tuple[int, int, int]
    ) -> None:
        self._keys, self._values, self._positions = keys, values, positions
        self.counts, self._dtype, self._shape = counts, dtype, shape

    def flat(self) -> Flat:
        bits = self._shape[2]
        keys = unpack(self._keys, bits, self._dtype).transpose(1, 2).flatten(0, 1)
        values = unpack(self._values, bits, self._dtype)[..., : self._shape[1]].flatten(1, 2)
        return Flat(keys=keys, values=values, positions=self._positions, counts=self.counts)

    def rows(self, index: Tensor) -> Segment:
        device = self._positions.device
        tokens = token_spans(self.counts, index).to(device)
        groups = token_spans(self.counts, index, unit=self._shape[0]).to(device)
        return KIVISegment(
            keys=self._keys.at(groups),
            values=self._values.at(tokens),
            positions=self._positions[tokens],
            counts=self.counts[index.cpu()],
            dtype=self._dtype,
            shape=self._shape,
        )

    def tensors(self) -> dict[str, Tensor]:
        packed = {f"{name}_{part}": getattr(p, part) for name, p in (("key", self._keys), ("value", self._values)) for part in PARTS}
        form = torch.tensor([*self._shape, DTYPES.index(self._dtype)])
        return packed | {"positions": self._positions, "counts": self.counts, "form": form}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> KIVISegment:
        group, channels, bits, dtype = tensors["form"].tolist()
        return cls(
            keys=Packed(*(tensors[f"key_{part}"] for part in PARTS)),
            values=Packed(*(tensors[f"value_{part}"] for part in PARTS)),
            positions=tensors["positions"],
            counts=tensors["counts"],
            dtype=DTYPES[dtype],
            shape=(group, channels, bits),
        )


PARTS = ("codes", "scale", "low")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def quantise(x: Tensor, bits: int) -> Packed:
    """Round ``x`` [..., n] to 2^bits levels between the smallest and the largest of the last axis, and pack the codes into bytes."""
    low, high = x.float().amin(dim=-1, keepdim=True), x.float().amax(dim=-1, keepdim=True)
    kept = torch.float32 if x.dtype == torch.float32 or float(high.abs().max()) > 6e4 or float(low.abs().max()) > 6e4 else torch.float16
    levels = (1 << bits) - 1
    low, scale = low.to(kept), ((high - low) / levels).to(kept)
    steps = torch.where(scale == 0, torch.zeros_like(x, dtype=torch.float32), (x.float() - low.float()) / scale.float().clamp(min=1e-30))
    codes = steps.round().clamp(0, levels).to(torch.uint8)
    per_byte = 8 // bits
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % per_byte)).reshape(*codes.shape[:-1], -1, per_byte)
    shifts = torch.arange(per_byte, device=x.device, dtype=torch.uint8) * bits
    return Packed((padded << shifts).sum(dim=-1, dtype=torch.uint8), scale, low)


def unpack(packed: Packed, bits: int, dtype: torch.dtype) -> Tensor:
    """The values the codes stand for: [..., n], n rounded up to whole bytes."""
    shifts = torch.arange(8 // bits, device=packed.codes.device, dtype=torch.uint8) * bits
    codes = (packed.codes[..., None] >> shifts) & ((1 << bits) - 1)
    return (codes.flatten(-2).float() * packed.scale.float() + packed.low.float()).to(dtype)
