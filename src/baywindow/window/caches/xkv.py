"""xKV: neighbouring layers share one low-rank form of their keys, and one of their values.

Paper: Chang and others, 2025, "xKV: Cross-Layer SVD for KV-Cache Compression", arXiv 2503.18893; reference code read:
abdelfattah-lab/xKV.

Idea: the dominant singular vectors of neighbouring layers' caches point alike. At the end of the prompt the un-rotated keys of
``group_layers`` layers are laid side by side, tokens × (layers · heads · dim), and cut to rank r: one row of r numbers a token,
held once for the group, times a small basis for each layer. Values likewise. Keys are multiplied out and rotated at every use; what is
generated later stays as it is.

Departs from the paper: the released code multiplies back at once and saves nothing; here the factors are what is held. Ranks are shares
of the group's width, because the published ones (512 and 768 for four layers of 1,024) only mean something for a model of that width.
The right singular vectors are the eigenvectors of the Gram matrix in double precision (single on devices without it): the same factors
at a fraction of an SVD's time. What would not become smaller stays as it is; the report says so.

Shapes and units: per token [r] for keys and for values; bases [B, r, H · D] a layer. Layers with a sliding window are no part of a group.
``group_layers=1`` is the per-layer SVD that the paper compares with.

Cost: once O(tokens · width²) a group; every read O(tokens · r · H · D) a layer.

Errors: ConfigError for sizes out of range; RecipeError beside caches that choose tokens head by head or pack rotated keys.
"""

from __future__ import annotations

import weakref
from typing import ClassVar

import torch
from torch import Tensor

from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import Cost, LayerInfo, Shape
from baywindow.window.block import Flat, token_spans
from baywindow.window.caches.base import Joiner, Quantiser, Segment, Together


@technique(
    summary="groups of layers share one low-rank form of their keys and values",
    paper="arXiv:2503.18893",
    year=2025,
    needs=("weights", "kv"),
    claim="At equal bytes, a joint SVD over four layers loses less than one SVD a layer, and finds at least as many needles.",
    departures=(
        "ranks are shares of a group's width: the published numbers belong to a width of 4,096",
        "singular vectors come from the Gram matrix: the same factors in a fraction of the time",
        "a row whose factors would not be smaller than its tokens stays as it is",
    ),
    slot="join",
)
class XKV(Joiner):
    needs_raw_keys = True

    group_layers: int = 4
    key_rank: float = 0.125  # of the group's width, the paper's 512 of 4,096
    value_rank: float = 0.1875  # the paper's 768 of 4,096
    residual_tokens: int = 0  # of the prompt's end, as they are

    def __post_init__(self) -> None:
        if self.group_layers < 1:
            raise ConfigError.bad_value("group_layers", self.group_layers, "at least 1")
        for name in ("key_rank", "value_rank"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError.bad_value(name, getattr(self, name), "above 0 and at most 1")
        if self.residual_tokens < 0:
            raise ConfigError.bad_value("residual_tokens", self.residual_tokens, "0 or more")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        super().check_with(others)
        if packer := next((o for o in others if isinstance(o, Quantiser) and not o.needs_raw_keys), None):
            raise RecipeError(
                f"{self.card.name} and {packer.card.name} cannot stand in one recipe: {packer.card.name} packs rotated keys, and "
                f"{self.card.name} holds them un-rotated",
                hint="choose one of them",
            )

    def join(self, together: Together) -> None:
        layers = together.layers
        for start in range(0, len(layers), self.group_layers):
            self._join_group(together, layers[start : start + self.group_layers])

    def _join_group(self, together: Together, group: tuple[LayerInfo, ...]) -> None:
        tokens = self._tokens(together, group)
        if not bool((tokens > 0).all()):
            together.note(f"{self.card.name}: factors would not be smaller than a short prompt; it stayed as it is")
        if not bool((tokens > 0).any()):
            return
        flats = [Flat.of(together.plain(i.index).split(tokens[:, None].expand(-1, i.kv_heads))[0]) for i in group]
        key_rows, key_bases = factors([by_token(flat.keys, flat.counts) for flat in flats], self.key_rank)
        value_rows, value_bases = factors([by_token(flat.values, flat.counts) for flat in flats], self.value_rank)
        places = torch.cat([rows[:, 0] for rows in by_token(flats[0].positions[:, None], flats[0].counts)])
        shared = Shared.of(key_rows, value_rows, places)
        for layer, flat, keys, values in zip(group, flats, key_bases, value_bases, strict=True):
            segment = XKVSegment(shared, keys, values, flat.counts)
            together.store(layer.index, flat.counts, lambda _, made=segment: made)  # type: ignore[misc]

    def _tokens(self, together: Together, group: tuple[LayerInfo, ...]) -> Tensor:
        """How many of each row's oldest tokens to store together: int64 [B], 0 where it would not pay. The question is left out."""
        positions = together.plain(group[0].index).head_positions[:, 0]
        held = positions >= 0
        tokens = held.sum(dim=1) - self.residual_tokens
        if together.protect_from is not None:
            tokens = torch.minimum(tokens, (held & (positions < together.protect_from[:, None])).sum(dim=1))
        keys, values = sum(i.kv_heads * i.head_dim for i in group), sum(i.kv_heads * i.value_dim for i in group)
        return torch.where(self._factor_numbers(tokens, keys, values) < tokens * (keys + values), tokens, 0)

    def _factor_numbers(self, tokens: Tensor, key_width: int, value_width: int) -> Tensor:
        """Numbers that the factors of so many tokens hold."""
        parts = ((rank_of(self.key_rank, key_width), key_width), (rank_of(self.value_rank, value_width), value_width))
        return torch.stack([rank * (tokens + width) for rank, width in parts]).sum(dim=0)

    def cost(self, shape: Shape) -> Cost:
        old = max(0, shape.prompt_tokens - self.residual_tokens)
        kept, flops = (shape.prompt_tokens - old) * shape.token_bytes, 0
        for start in range(0, shape.layers, self.group_layers):
            width = min(self.group_layers, shape.layers - start) * shape.kv_heads * shape.head_dim
            factored = int(self._factor_numbers(torch.tensor(old), width, width))
            kept += min(factored, 2 * old * width) * shape.element_bytes
            flops += 4 * old * width**2
        return Cost(flops=flops, bytes_kept=kept, bytes_read=kept)


class Shared:
    """What the layers of a group hold together: ``keys`` [N, r] and ``values`` [N, s] of the tokens of all rows end to end, and their
    ``positions`` int32 [N]. The same tensors always give the same object, and the same rows of it too: so layers that are loaded,
    copied or reordered one by one go on sharing."""

    _alive: ClassVar[weakref.WeakValueDictionary[int, Shared]] = weakref.WeakValueDictionary()

    def __init__(self, keys: Tensor, values: Tensor, positions: Tensor) -> None:
        self.keys, self.values, self.positions = keys, values, positions
        self._picked: tuple[list[int], weakref.ref[Shared]] | None = None

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, positions: Tensor) -> Shared:
        known = cls._alive.get(id(keys))
        if known is None or known.keys is not keys:
            known = cls._alive[id(keys)] = cls(keys, values, positions)
        return known

    def rows(self, index: Tensor, tokens: Tensor) -> Shared:
        """Batch rows ``index``, of which row b has ``tokens[b]`` (CPU)."""
        wanted = index.tolist()
        picked = self._picked[1]() if self._picked is not None and self._picked[0] == wanted else None
        if picked is None:
            at = token_spans(tokens[:, None], index).to(self.keys.device)
            picked = Shared.of(self.keys[at], self.values[at], self.positions[at])
            self._picked = wanted, weakref.ref(picked)
        return picked


class XKVSegment(Segment):
    """One layer's share of a group: bases [B, r, H · D] and [B, s, H · Dv], and what it holds together with the others."""

    def __init__(self, shared: Shared, key_basis: Tensor, value_basis: Tensor, counts: Tensor) -> None:
        self._shared, self._key_basis, self._value_basis = shared, key_basis, value_basis
        self.counts = counts

    @property
    def _tokens(self) -> Tensor:
        return self.counts[:, 0]  # every head of a row has the same tokens

    def flat(self) -> Flat:
        heads = self.counts.shape[1]
        tokens: list[int] = self._tokens.tolist()
        positions = torch.cat([row.repeat(heads) for row in torch.split(self._shared.positions, tokens)])
        keys = multiplied(self._shared.keys, self._key_basis, tokens, heads)
        return Flat(
            keys=keys, values=multiplied(self._shared.values, self._value_basis, tokens, heads), positions=positions, counts=self.counts
        )

    def rows(self, index: Tensor) -> Segment:
        at = index.to(self._key_basis.device)
        shared = self._shared.rows(index.cpu(), self._tokens)
        return XKVSegment(shared, self._key_basis[at], self._value_basis[at], self.counts[index.cpu()])

    def tensors(self) -> dict[str, Tensor]:
        own = {"key_basis": self._key_basis, "value_basis": self._value_basis, "counts": self.counts}
        return own | {"shared_keys": self._shared.keys, "shared_values": self._shared.values, "positions": self._shared.positions}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Segment:
        shared = Shared.of(tensors["shared_keys"], tensors["shared_values"], tensors["positions"])
        return cls(shared, tensors["key_basis"], tensors["value_basis"], tensors["counts"])


def rank_of(share: float, width: int) -> int:
    """The rank that a share of a width means, at least 1."""
    return max(1, round(share * width))


def by_token(x: Tensor, counts: Tensor) -> list[Tensor]:
    """A flat tensor [N, D] (rows, then heads, then tokens) as one matrix a row, tokens × (heads · D); each row's heads count alike."""
    heads = counts.shape[1]
    rows = torch.split(x, counts.sum(dim=1).tolist())
    return [row.view(heads, -1, x.shape[1]).transpose(0, 1).reshape(-1, heads * x.shape[1]) for row in rows]


def factors(layers: list[list[Tensor]], share: float) -> tuple[Tensor, list[Tensor]]:
    """The best factors of rank r of the layers' matrices side by side, for each row apart: the tokens' [N, r], rows end to end, and each
    layer's basis [B, r, width]."""
    widths = [rows[0].shape[1] for rows in layers]
    rank = rank_of(share, sum(widths))
    tokens, bases = [], []
    for sides in zip(*layers, strict=True):
        matrix = torch.cat(sides, dim=1)
        exact = matrix.float() if matrix.device.type == "mps" else matrix.double()
        vectors = torch.linalg.eigh(exact.T @ exact).eigenvectors[:, -rank:].to(exact.dtype)
        tokens.append((exact @ vectors).to(matrix.dtype))
        bases.append(vectors.T.to(matrix.dtype))
    return torch.cat(tokens), [part.contiguous() for part in torch.split(torch.stack(bases), widths, dim=2)]


def multiplied(rows: Tensor, basis: Tensor, tokens: list[int], heads: int) -> Tensor:
    """Tokens [N, r] times their row's basis [B, r, heads · D], as a flat tensor: rows, then heads, then tokens."""
    found = [part @ one for part, one in zip(torch.split(rows, tokens), basis, strict=True)]
    width = basis.shape[2] // heads
    return torch.cat([part.view(-1, heads, width).transpose(0, 1).reshape(-1, width) for part in found])
