"""Keys and values with their true positions: `Block` for work (padded), `Flat` for storage (only what is kept).

Heads and rows may hold different numbers of tokens. A `Block` pads them with holes (position −1) to one length; a `Flat` lays the
kept tokens of all rows and heads end to end, so what was dropped is really freed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from baywindow.window.base import heads_of

LOG_TOKENS = "log_tokens"  # a tag: the logarithm of how many tokens a merged one stands for, added to its logits


@dataclass(frozen=True, kw_only=True)
class Block:
    """``keys`` [B, H, L, D], ``values`` [B, H, L, Dv], ``positions`` [B, L] or [B, H, L] int64 (−1: hole), ``tags`` each [B, H, L]."""

    keys: Tensor
    values: Tensor
    positions: Tensor
    tags: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def unread(*, keys: Tensor, values: Tensor, tags: dict[str, Tensor], read: Callable[[], Tensor]) -> Block:
        """A block whose positions come from ``read`` when somebody asks for them first: a step needs none where nothing is hidden."""
        block = object.__new__(_Unread)
        block.__dict__.update(keys=keys, values=values, tags=tags, _read=read)
        return block

    @property
    def length(self) -> int:
        return self.keys.shape[2]

    @property
    def heads(self) -> int:
        return self.keys.shape[1]

    def read(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the slots ``at`` [B, H, n], none negative: [B, H, n, D] and [B, H, n, Dv]."""
        return rows_of_both(self.keys, self.values, at)

    def part(self, start: int, stop: int) -> Block:
        """A view of the slots ``start`` to ``stop``; positions are read when asked for."""
        return Block.unread(
            keys=self.keys[:, :, start:stop],
            values=self.values[:, :, start:stop],
            tags={name: tag[..., start:stop] for name, tag in self.tags.items()},
            read=lambda: self.positions[..., start:stop],
        )

    def first(self, n: int) -> Block:
        """A view of the first ``n`` slots."""
        return self if n == self.length else self.part(0, n)

    @property
    def head_positions(self) -> Tensor:
        """[B, H, L]."""
        return heads_of(self.positions, self.heads)

    @property
    def held(self) -> Tensor:
        """Tokens held per row and head: [B, H]."""
        return (self.head_positions >= 0).sum(dim=-1)

    def take(self, index: Tensor) -> Block:
        """The slots ``index`` [B, H, n] (or [B, 1, n] for all heads), in that order; a negative index makes a hole."""
        hole = index < 0
        if index.shape[1] == 1 and self.positions.dim() == 2:
            positions = self.positions.gather(1, index[:, 0].clamp(min=0)).masked_fill(hole[:, 0], -1)
        else:
            full = index.expand(-1, self.heads, -1)
            positions = self.head_positions.gather(2, full.clamp(min=0)).masked_fill(hole.expand_as(full), -1)
        at = index.clamp(min=0).expand(-1, self.heads, -1)
        keys, values = self.read(at)
        return Block(
            keys=keys,
            values=values,
            positions=positions,
            tags={name: tag.gather(2, at) for name, tag in self.tags.items()},
        )

    def keep(self, mask: Tensor) -> Block:
        """The slots where ``mask`` [B, H, L] is True, in order; holes stand in front in rows and heads that keep fewer.

        In front, so that what comes next is appended right behind the last token, in a batch as alone.
        """
        mask = mask & (self.head_positions >= 0)
        if self.positions.dim() == 2 and bool((mask == mask[:, :1]).all()):
            mask = mask[:, :1]
        counts = mask.sum(dim=-1)
        longest = int(counts.max()) if counts.numel() else 0
        order = torch.argsort(mask, dim=-1, stable=True)[..., mask.shape[-1] - longest :]
        index = torch.where(torch.arange(longest, device=mask.device) >= longest - counts[..., None], order, -1)
        return self.take(index)

    def split(self, counts: Tensor) -> tuple[Block, Block]:
        """The first ``counts`` [B, H] held tokens of each row and head, and the rest (holes in front in both)."""
        held = self.head_positions >= 0
        rank = held.long().cumsum(dim=-1) - 1
        first = rank < counts[..., None]
        return self.keep(held & first), self.keep(held & ~first)

    def rows(self, index: Tensor) -> Block:
        """Batch rows ``index`` [B'], for beam search."""
        return Block(
            keys=self.keys.index_select(0, index),
            values=self.values.index_select(0, index),
            positions=self.positions.index_select(0, index),
            tags={name: tag.index_select(0, index) for name, tag in self.tags.items()},
        )

    @staticmethod
    def join(blocks: list[Block]) -> Block:
        """Blocks side by side along the token axis. Tags that one of them lacks are zero there."""
        if len(blocks) == 1:
            return blocks[0]
        heads = blocks[0].keys.shape[1]
        per_head = any(b.positions.dim() == 3 for b in blocks)
        names = {name: tag for b in blocks for name, tag in b.tags.items()}
        return Block(
            keys=torch.cat([b.keys for b in blocks], dim=2),
            values=torch.cat([b.values for b in blocks], dim=2),
            positions=torch.cat([heads_of(b.positions, heads) if per_head else b.positions for b in blocks], dim=-1),
            tags={
                name: torch.cat([b.tags.get(name, one.new_zeros(*b.keys.shape[:3])) for b in blocks], dim=2) for name, one in names.items()
            },
        )


class _Unread(Block):
    """What `Block.unread` gives."""

    def __getattr__(self, name: str) -> Tensor:
        if name != "positions":
            raise AttributeError(name)
        found: Tensor = self.__dict__["_read"]()
        self.__dict__["positions"] = found
        return found


@dataclass(frozen=True, kw_only=True)
class Flat:
    """``keys`` [N, D], ``values`` [N, Dv], ``positions`` [N] int32: rows, then heads, then tokens. ``counts`` [B, H] tokens (CPU)."""

    keys: Tensor
    values: Tensor
    positions: Tensor
    counts: Tensor

    @staticmethod
    def of(block: Block) -> Flat:
        """Everything the block holds, holes left out."""
        positions = block.head_positions
        held = positions >= 0
        return Flat(
            keys=block.keys[held],
            values=block.values[held],
            positions=positions[held].to(torch.int32),
            counts=held.sum(dim=-1).cpu(),
        )

    def block(self) -> Block:
        """Padded in front to the longest row and head: [B, H, L, …]. A plain view when all counts are equal."""
        B, H = self.counts.shape
        longest = int(self.counts.max()) if self.counts.numel() else 0
        if bool((self.counts == longest).all()):
            return Block(
                keys=self.keys.view(B, H, longest, -1),
                values=self.values.view(B, H, longest, -1),
                positions=self.positions.view(B, H, longest).long(),
            )
        held = (torch.arange(longest)[None, None, :] >= longest - self.counts[..., None]).to(self.keys.device)
        keys = self.keys.new_zeros(B, H, longest, self.keys.shape[-1])
        values = self.values.new_zeros(B, H, longest, self.values.shape[-1])
        positions = torch.full((B, H, longest), -1, device=self.keys.device, dtype=torch.long)
        keys[held], values[held], positions[held] = self.keys, self.values, self.positions.long()
        return Block(keys=keys, values=values, positions=positions)

    def rows(self, index: Tensor) -> Flat:
        """Batch rows ``index`` [B'], for beam search."""
        spans = token_spans(self.counts, index)
        at = spans.to(self.keys.device)
        return replace(self, keys=self.keys[at], values=self.values[at], positions=self.positions[at], counts=self.counts[index.cpu()])

    def nbytes(self) -> int:
        return tensor_bytes(self.keys, self.values, self.positions, self.counts)


def token_spans(counts: Tensor, index: Tensor, unit: int = 1) -> Tensor:
    """Indices into a flat axis of the tokens (in steps of ``unit``) that belong to the batch rows ``index``."""
    per_row = counts.sum(dim=1) // unit
    ends = per_row.cumsum(0)
    picked = [torch.arange(int(ends[r] - per_row[r]), int(ends[r])) for r in index.cpu().tolist()]
    return torch.cat(picked) if picked else torch.empty(0, dtype=torch.long)


def tensor_bytes(*tensors: Tensor) -> int:
    """Bytes really held: of the whole storage, once each, so a slice that keeps a larger tensor alive is counted whole."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.numel()}
    return sum(storages.values())


def rows_of_heads(x: Tensor, index: Tensor) -> Tensor:
    """``x`` [B, H, L, D] at the slots ``index`` [B, H, n]: [B, H, n, D].

    Whole rows are copied where they lie whole in memory: many times cheaper than gathering element by element.
    """
    return rows_of_both(x, None, index)[0]


def rows_of_both(x: Tensor, y: Tensor | None, index: Tensor) -> tuple[Tensor, Tensor]:
    """The same for two tensors at once, which usually lie alike, so where to read is worked out once. Without ``y`` the first twice."""
    at = _row_numbers(x, index)
    first = _rows_at(x, index, at)
    if y is None:
        return first, first
    alike = at is not None and (y.shape, y.stride()) == (x.shape, x.stride())
    return first, _rows_at(y, index, at if alike else _row_numbers(y, index))


def _row_numbers(x: Tensor, index: Tensor) -> Tensor | None:
    """Which rows of D elements of the memory behind ``x`` [B, H, L, D] the slots ``index`` [B, H, n] are: [B · H · n]; None if rows do not
    lie whole."""
    B, H, L, D = x.shape
    if L == 0 or D == 0 or x.stride()[2:] != (D, 1) or x.stride(0) % D or x.stride(1) % D:
        return None
    per_row, per_head = x.stride(0) // D, x.stride(1) // D
    if per_row == H * per_head:
        first = torch.arange(0, B * per_row, per_head, device=x.device).view(B, H, 1)
    else:
        first = (torch.arange(B, device=x.device)[:, None] * per_row + torch.arange(H, device=x.device) * per_head)[..., None]
    return (index + first).flatten()


def _rows_at(x: Tensor, index: Tensor, at: Tensor | None) -> Tensor:
    B, H, L, D = x.shape
    if at is None:
        return x.gather(2, index[..., None].expand(-1, -1, -1, D))
    span = ((B - 1) * x.stride(0) + (H - 1) * x.stride(1)) // D + L
    return x.as_strided((span, D), (D, 1)).index_select(0, at).view(B, H, -1, D)
