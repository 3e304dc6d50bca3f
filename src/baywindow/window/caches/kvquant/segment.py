"""What KVQuant holds: packed codes, the ranges and levels they stand for, outliers as sparse lists, and the first tokens as they were."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from baywindow.window.block import Flat, token_spans
from baywindow.window.caches._bits import pack_bits, unpack_bits
from baywindow.window.caches.base import Segment

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TINY = 1e-30  # a range of nothing: all its values are the centre
HALF_LIMIT = 6e4  # what float16 can say


class Form(NamedTuple):
    """How the codes are to be read."""

    bits: int
    key_dim: int
    value_dim: int
    sink_tokens: int
    dtype: torch.dtype


class KVQuantSegment(Segment):
    """Tokens of all rows and heads, end to end (N of them).

    Keys: ``key_codes`` [N, bytes], ``key_ranges`` float32 [2, R, D] (centres, half widths; R = H, or B · H where every row has its own),
    ``key_levels`` [2^bits]; outliers of token n are the next ``key_out_counts[n]`` of ``key_out_channels`` and ``key_out`` [M].
    Values: ``value_codes``, ``value_ranges`` [2, N, 1], ``value_levels``; as many outliers in each token: ``value_out_channels`` and
    ``value_out`` [N, 2m]. ``sink_keys`` and ``sink_values`` [S, D] replace tokens at positions below ``Form.sink_tokens``.
    ``positions`` int32: the first of each row and head [B, H] where tokens follow each other, else all [N].
    """

    def __init__(self, tensors: dict[str, Tensor], form: Form) -> None:
        self._held, self._form = tensors, form
        self.counts = tensors["counts"]

    @classmethod
    def pack(cls, flat: Flat, form: Form, tables: dict[str, Tensor], levels: tuple[Tensor, Tensor], out: int) -> KVQuantSegment:
        """``tables`` are what is read by, ``levels`` what keys and values are rounded to. ``out`` values stand out on each side of every
        token's values."""
        sinks = flat.positions < form.sink_tokens
        held = tables | {
            "sink_keys": flat.keys[sinks],
            "sink_values": flat.values[sinks],
            "positions": in_runs(flat.positions, flat.counts),
            "counts": flat.counts,
        }
        held |= _packed_keys(flat, form, tables["key_ranges"], levels[0], sinks) | _packed_values(flat, form, levels[1], out)
        return cls(held, form)

    def flat(self) -> Flat:
        positions = listed(self._held["positions"], self.counts)
        sinks = positions < self._form.sink_tokens
        keys, values = self._keys(), self._values()
        keys[sinks], values[sinks] = self._held["sink_keys"], self._held["sink_values"]
        return Flat(keys=keys, values=values, positions=positions, counts=self.counts)

    def _keys(self) -> Tensor:
        held, form = self._held, self._form
        x = held["key_levels"].index_select(0, unpack_bits(held["key_codes"], form.bits, form.key_dim).flatten()).view(-1, form.key_dim)
        B, H = self.counts.shape
        centre, half = held["key_ranges"]
        if len(x) and bool((self.counts == self.counts[0, 0]).all()):
            x.view(-1, len(centre), len(x) // (B * H), form.key_dim).mul_(half[:, None]).add_(centre[:, None])
        else:
            x.mul_(of_tokens(half, self.counts)).add_(of_tokens(centre, self.counts))
        keys = x.to(form.dtype)
        keys[_out_tokens(held["key_out_counts"]), held["key_out_channels"].long()] = held["key_out"]
        return keys

    def _values(self) -> Tensor:
        held, form = self._held, self._form
        x = held["value_levels"].index_select(0, unpack_bits(held["value_codes"], form.bits, form.value_dim).flatten())
        centre, half = held["value_ranges"].float()
        values = x.view(-1, form.value_dim).mul_(half).add_(centre).to(form.dtype)
        return values.scatter_(1, held["value_out_channels"].long(), held["value_out"])

    def rows(self, index: Tensor) -> Segment:
        held, device = self._held, self._held["key_codes"].device
        tokens = token_spans(self.counts, index).to(device)
        positions = listed(held["positions"], self.counts)
        sinks = positions < self._form.sink_tokens
        out_counts = held["key_out_counts"].long()
        outliers = runs((out_counts.cumsum(0) - out_counts)[tokens], out_counts[tokens])
        sink_rows = (sinks.long().cumsum(0) - 1)[tokens][sinks[tokens]]
        counts, heads = self.counts[index.cpu()], self.counts.shape[1]
        ranges = held["key_ranges"]
        if ranges.shape[1] != heads:  # every row has its own
            ranges = ranges.view(2, -1, heads, ranges.shape[2])[:, index.to(device)].flatten(1, 2)
        by_token = ("key_codes", "key_out_counts", "value_codes", "value_out_channels", "value_out")
        picked = {name: held[name][tokens] for name in by_token}
        picked |= {name: held[name][outliers] for name in ("key_out_channels", "key_out")}
        picked |= {name: held[name][sink_rows] for name in ("sink_keys", "sink_values")}
        picked |= {"value_ranges": held["value_ranges"][:, tokens], "key_ranges": ranges, "counts": counts}
        picked["positions"] = in_runs(positions[tokens], counts)
        return KVQuantSegment(held | picked, self._form)

    def tensors(self) -> dict[str, Tensor]:
        return self._held | {"form": torch.tensor([*self._form[:4], DTYPES.index(self._form.dtype)])}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Segment:
        bits, key_dim, value_dim, sinks, dtype = tensors["form"].tolist()
        form = Form(bits, key_dim, value_dim, sinks, DTYPES[dtype])
        return cls({name: t for name, t in tensors.items() if name != "form"}, form)


# -- packing ------------------------------------------------------------------------------------------------------------------------


def beyond(share: float, dim: int) -> int:
    """Outliers on each side of a token's ``dim`` values: those at or beyond the percentile that leaves half of ``share`` outside."""
    return int(share / 2 * (dim - 1)) + 1 if share > 0 else 0


def ranges_within(flat: Flat, share: float) -> Tensor:
    """Centres and half widths [2, B · H, D] of every row and head's key channels, with ``share`` of the tokens outside."""
    at = torch.tensor([share / 2, 1 - share / 2], device=flat.keys.device)
    spans = torch.split(flat.keys.float(), flat.counts.flatten().tolist())
    ends = [torch.quantile(x, at, dim=0) if len(x) else x.new_zeros(2, x.shape[1]) for x in spans]
    low, high = torch.stack(ends, dim=1)
    return torch.stack([(high + low) / 2, (high - low) / 2])


def _packed_keys(flat: Flat, form: Form, ranges: Tensor, levels: Tensor, sinks: Tensor) -> dict[str, Tensor]:
    centre, half = (of_tokens(side, flat.counts) for side in ranges)
    scaled = (flat.keys.float() - centre) / half.clamp(min=TINY)
    outside = (scaled.abs() > 1) & ~sinks[:, None]
    return {
        "key_codes": pack_bits(_codes(scaled, levels), form.bits),
        "key_out_counts": outside.sum(dim=1).to(torch.uint8 if form.key_dim < 256 else torch.int16),
        "key_out_channels": outside.nonzero()[:, 1].to(_index_type(form.key_dim)),
        "key_out": flat.keys[outside],
    }


def _packed_values(flat: Flat, form: Form, levels: Tensor, out: int) -> dict[str, Tensor]:
    x = flat.values.float()
    low, low_at = x.topk(out + 1, dim=1, largest=False)
    high, high_at = x.topk(out + 1, dim=1)
    ranges = torch.stack([high[:, -1:] + low[:, -1:], high[:, -1:] - low[:, -1:]]) / 2
    at = torch.cat([low_at[:, :out], high_at[:, :out]], dim=1)
    exact = form.dtype == torch.float32 or bool((ranges.abs() > HALF_LIMIT).any())
    ranges = ranges if exact else ranges.half()
    centre, half = ranges.float()  # as they will be read
    return {
        "value_codes": pack_bits(_codes((x - centre) / half.clamp(min=TINY), levels), form.bits),
        "value_ranges": ranges,
        "value_out_channels": at.to(_index_type(form.value_dim)),
        "value_out": flat.values.gather(1, at),
    }


def _codes(scaled: Tensor, levels: Tensor) -> Tensor:
    """The nearest level of each value."""
    return torch.bucketize(scaled, (levels[1:] + levels[:-1]) / 2, out_int32=True)


def _index_type(dim: int) -> torch.dtype:
    return torch.uint8 if dim <= 256 else torch.int16


# -- tokens end to end ----------------------------------------------------------------------------------------------------------------


def of_tokens(table: Tensor, counts: Tensor) -> Tensor:
    """What is known of each head, or of each row and head [R, D], for each of their tokens: [N, D]."""
    owner = torch.arange(counts.numel()).repeat_interleave(counts.flatten()) % len(table)
    return table[owner.to(table.device)]


def runs(starts: Tensor, lengths: Tensor) -> Tensor:
    """start, start + 1, … for each of ``starts`` [n] as often as ``lengths`` [n] says, end to end."""
    before = lengths.cumsum(0) - lengths
    total = int(lengths.sum())
    return torch.arange(total, device=starts.device) + (starts - before).repeat_interleave(lengths, output_size=total)


def in_runs(positions: Tensor, counts: Tensor) -> Tensor:
    """Positions [N] by the first of each row and head [B, H], if they follow each other there; else as they are."""
    lengths = counts.flatten().to(positions.device)
    at = (lengths.cumsum(0) - lengths).clamp(max=max(len(positions) - 1, 0))
    starts = positions[at] if len(positions) else torch.zeros_like(lengths)
    return starts.view(counts.shape).to(torch.int32) if torch.equal(runs(starts.long(), lengths), positions.long()) else positions


def listed(positions: Tensor, counts: Tensor) -> Tensor:
    """Positions as `in_runs` gave them, all of them: int32 [N]."""
    if positions.dim() == 1:
        return positions
    return runs(positions.flatten().long(), counts.flatten().to(positions.device)).to(torch.int32)


def _out_tokens(counts: Tensor) -> Tensor:
    """The token of every outlier."""
    return torch.arange(len(counts), device=counts.device).repeat_interleave(counts.long())
