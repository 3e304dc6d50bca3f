"""Codes of a few bits each, packed without a gap: eight codes of b bits fill b bytes, low bits first. 3 bits cost 3 bits."""

from __future__ import annotations

import torch
from torch import Tensor

CODES = 8  # that share a word


def packed_bytes(n: int, bits: int) -> int:
    """Bytes that ``n`` codes of ``bits`` bits take."""
    return -(-n // CODES) * bits


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """``codes`` [..., n], each below 2^bits (bits 1 to 8), as uint8 [..., packed_bytes(n, bits)]."""
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % CODES))
    eights = padded.reshape(*codes.shape[:-1], padded.shape[-1] // CODES, CODES).long()
    words = (eights << _shifts(bits, CODES, codes)).sum(dim=-1)
    packed: Tensor = (words[..., None] >> _shifts(8, bits, codes)) & 255
    return packed.to(torch.uint8).flatten(-2)


def unpack_bits(packed: Tensor, bits: int, n: int) -> Tensor:
    """The ``n`` codes of the last axis again: int32 (int64 above 4 bits) [..., n]."""
    kind = torch.int32 if bits <= 4 else torch.int64  # the integer that eight codes fit in
    words = packed[..., 0::bits].to(kind)
    for i in range(1, bits):
        words |= packed[..., i::bits].to(kind) << (8 * i)
    codes = (words[..., None] >> _shifts(bits, CODES, packed, kind)).bitwise_and_((1 << bits) - 1)
    return codes.flatten(-2)[..., :n]


def _shifts(step: int, count: int, like: Tensor, kind: torch.dtype = torch.int64) -> Tensor:
    return torch.arange(count, device=like.device, dtype=kind) * step
