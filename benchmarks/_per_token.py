"""What KVQuant is compared with: rotated keys, and values, in even levels between the least and the greatest of each token and head."""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Flat, token_spans
from baywindow.window.caches._bits import pack_bits, packed_bytes, unpack_bits
from baywindow.window.caches.base import Packing, Quantiser, Segment


@technique(summary="even levels by token", needs=("weights", "kv"), room="window/caches", slot="quantise")
class PerToken(Quantiser):
    bits: int = 3
    group_tokens: int = 64
    residual_tokens: int = 0

    def encode(self, flat: Flat, at: Packing) -> Segment:
        held = {"positions": flat.positions, "counts": flat.counts, "bits": torch.tensor([self.bits, flat.keys.shape[1]])}
        for name, x in (("key", flat.keys.float()), ("value", flat.values.float())):
            low, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
            low, step = low.half(), ((high - low) / ((1 << self.bits) - 1)).half()
            codes = ((x - low.float()) / step.float().clamp(min=1e-30)).round().clamp(0, (1 << self.bits) - 1)
            held |= {f"{name}_codes": pack_bits(codes, self.bits), f"{name}_low": low, f"{name}_step": step}
        return PerTokenSegment(held, flat.keys.dtype)

    def cost(self, shape: Shape) -> Cost:
        kept = 2 * shape.layers * shape.kv_heads * shape.prompt_tokens * (packed_bytes(shape.head_dim, self.bits) + 4)
        return Cost(flops=0, bytes_kept=kept, bytes_read=kept)


class PerTokenSegment(Segment):
    """Codes with the least value and the step of each token."""

    def __init__(self, held: dict[str, Tensor], dtype: torch.dtype) -> None:
        self._held, self._dtype, self.counts = held, dtype, held["counts"]

    def flat(self) -> Flat:
        keys, values = (self._read(name) for name in ("key", "value"))
        return Flat(keys=keys, values=values, positions=self._held["positions"], counts=self.counts)

    def _read(self, name: str) -> Tensor:
        bits, dim = self._held["bits"].tolist()
        codes = unpack_bits(self._held[f"{name}_codes"], bits, dim).float()
        return (codes * self._held[f"{name}_step"].float() + self._held[f"{name}_low"].float()).to(self._dtype)

    def rows(self, index: Tensor) -> Segment:
        at = token_spans(self.counts, index).to(self._held["positions"].device)
        picked = {name: t[at] for name, t in self._held.items() if name not in ("counts", "bits")}
        return PerTokenSegment({**picked, "counts": self.counts[index.cpu()], "bits": self._held["bits"]}, self._dtype)

    def tensors(self) -> dict[str, Tensor]:
        return self._held

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Segment:
        return cls(tensors, torch.bfloat16)
