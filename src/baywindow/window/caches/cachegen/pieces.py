"""One piece of keys or values, tokens by channels, as bytes and back; and which saved tensors have pieces.

A piece is coded as: flags, lengths, anchors (scaled by channel, 8 bits) if it has any, a scale for every other token, their symbols.
Differences are taken to what the decoder will see of the anchor, so an anchor's error is not added to those behind it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baywindow.window.caches.cachegen import coding
from baywindow.window.caches.cachegen.coding import damaged
from baywindow.window.caches.cachegen.levels import Kind, steps_of

Floats = NDArray[np.float32]
HEAD = struct.Struct("<BHHIIII")  # has anchors, bins, group; bytes of anchor tables, anchor code, tables, code
ANCHOR_BINS = 256
WORTH_IT = 0.5  # anchors cost 4 to 5 bits more than other tokens, half a bit for each of ten: 3 dB, a factor of two in mean square
NAME = re.compile(r"(\d+)\.(tail|segment\d+)\.(keys|values)")
LARGEST = 1e30  # beyond it scales would not fit their format


@dataclass(frozen=True)
class Coded:
    """A tensor that is coded. ``runs``: its tokens in sequence, each [T, C] (a row of a tail; a row's head of a segment)."""

    name: str
    layer: int
    kind: Kind
    tensor: Tensor
    runs: tuple[Tensor, ...]


def sort(tensors: dict[str, Tensor]) -> tuple[list[Coded], dict[str, Tensor]]:
    """Keys and values held as they are, and all other tensors. Segments of other forms are packed already and stay exact."""
    coded: list[Coded] = []
    for name, tensor in tensors.items():
        match = NAME.fullmatch(name)
        if match is None or not tensor.is_floating_point() or not _tame(tensor):
            continue
        runs = _runs(tensor, name.rpartition(".")[0], tensors)
        if runs is not None:
            coded.append(Coded(name, int(match[1]), cast(Kind, match[3]), tensor, runs))
    names = {one.name for one in coded}
    return coded, {name: t for name, t in tensors.items() if name not in names}


def _runs(tensor: Tensor, at: str, tensors: dict[str, Tensor]) -> tuple[Tensor, ...] | None:
    parts = {name.rpartition(".")[2] for name in tensors if name.startswith(at + ".")}
    if tensor.dim() == 4:  # by slot, as in a tail
        by_slot = at.endswith(".tail") or parts - {"starts", "positions"} == {"keys", "values", "counts"}
        return rows_of(tensor) if by_slot else None
    if parts != {"keys", "values", "positions", "counts"} or tensor.dim() != 2:
        return None
    counts = tensors[f"{at}.counts"].flatten().tolist()
    return torch.split(tensor, counts) if sum(counts) == tensor.shape[0] else None


def rows_of(tail: Tensor) -> tuple[Tensor, ...]:
    """The rows of [B, H, L, D], each [L, H · D]."""
    return tuple(row.transpose(0, 1).flatten(1) for row in tail)


def _tame(tensor: Tensor) -> bool:
    return not tensor.numel() or bool((tensor.abs() < LARGEST).all())  # also False for NaN


def encode(x: Floats, bins: int, group: int) -> bytes:
    """A piece [T, C], T and C at least 1."""
    anchors = bool(group > 1 and deltas_pay(x, group))
    front, seen = _encode_anchors(x[::group]) if anchors else ((b"", b"", b""), None)
    rest = x if seen is None else (x - seen.repeat(group, axis=0)[: len(x)])[_others(len(x), group)]
    scales = upward(np.abs(rest).max(axis=1))
    steps = steps_of(bins)
    symbols = to_symbols(rest, widened(scales)[:, None], steps)
    tables, code = coding.encode(symbols, bins) if len(rest) else (b"", b"")
    head = HEAD.pack(anchors, bins, group, len(front[1]), len(front[2]), len(tables), len(code))
    return b"".join([head, *front, scales.tobytes(), tables, code])


def decode(raw: bytes, shape: tuple[int, int]) -> Floats:
    """The piece [T, C]. Raises SourceError where lengths do not agree."""
    T, C = shape
    if len(raw) < HEAD.size:
        raise damaged("a piece is too short")
    anchors, bins, group, *sizes = HEAD.unpack_from(raw)
    if anchors not in (0, 1) or bins < 4 or group < 1:
        raise damaged("a piece has an impossible head")
    others = _others(T, group) if anchors else np.ones(T, dtype=bool)
    n = int(others.sum())
    lengths = [2 * C if anchors else 0, sizes[0], sizes[1], 2 * n, sizes[2], sizes[3]]
    if len(raw) != HEAD.size + sum(lengths):
        raise damaged("a piece has another length than it says")
    ends = HEAD.size + np.cumsum([0, *lengths])
    by_channel, anchor_tables, anchor_code, by_token, tables, code = (raw[a:b] for a, b in pairwise(ends))
    out = np.zeros((T, C), dtype=np.float32)
    if anchors:
        scale = widened(np.frombuffer(by_channel, dtype="<u2"))
        symbols = coding.decode(anchor_tables, anchor_code, (T - n, C), ANCHOR_BINS, shared=True)
        out[~others] = from_symbols(symbols, scale, steps_of(ANCHOR_BINS))
    rest = np.zeros((0, C), dtype=np.float32)
    if n:
        symbols = coding.decode(tables, code, (n, C), bins)
        rest = from_symbols(symbols, widened(np.frombuffer(by_token, dtype="<u2"))[:, None], steps_of(bins))
    out[others] = rest + out[~others].repeat(group, axis=0)[:T][others] if anchors else rest
    return out


def _encode_anchors(x: Floats) -> tuple[tuple[bytes, bytes, bytes], Floats]:
    """Scales, tables and code of anchors [A, C]; and what the decoder will see of them."""
    scale = upward(np.abs(x).max(axis=0))
    steps = steps_of(ANCHOR_BINS)
    symbols = to_symbols(x, widened(scale), steps)
    tables, code = coding.encode(symbols, ANCHOR_BINS, shared=True)
    return (scale.tobytes(), tables, code), from_symbols(symbols, widened(scale), steps)


def deltas_pay(x: Floats, group: int) -> bool:
    """Whether differences to the anchor are at most half as large, in mean square, as the tokens themselves."""
    others = _others(len(x), group)
    own = float(np.square(x[others]).sum())
    deltas = (x - x[::group].repeat(group, axis=0)[: len(x)])[others]
    return float(np.square(deltas).sum()) <= WORTH_IT * own


def _others(tokens: int, group: int) -> NDArray[np.bool_]:
    """Which tokens are no anchors."""
    return np.not_equal(np.arange(tokens) % group, 0)


def to_symbols(x: Floats, scale: Floats, steps: int) -> NDArray[np.int32]:
    """0 to 2 · steps; where the scale is 0 everything is 0 and gets the middle one."""
    factor = np.divide(steps, scale, out=np.zeros_like(scale), where=scale > 0)
    return (np.clip(np.round(x * factor), -steps, steps) + steps).astype(np.int32)


def from_symbols(symbols: NDArray[np.int32], scale: Floats, steps: int) -> Floats:
    return ((symbols - steps).astype(np.float32) * (scale / np.float32(steps))).astype(np.float32)


def upward(x: Floats) -> NDArray[np.uint16]:
    """Non-negative numbers in 16 bits with the range of float32, rounded up so that nothing exceeds its own scale."""
    return ((x.astype("<f4").view("<u4").astype(np.uint64) + 0xFFFF) >> 16).astype("<u2")


def widened(x: NDArray[np.uint16]) -> Floats:
    """The same numbers as float32."""
    return (x.astype("<u4") << 16).view("<f4").astype(np.float32)
