"""True positions of the slots of a tail, in the least room that says them.

Tokens that follow each other need only the first position of their row. What a cache chose needs a bit for every token it chose from.
Anything else (a batch with padding in its middle, caches that drop a token at every step) is a list of int32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from baywindow.window.base import heads_of

GROWTH = 1.25
SLACK_TOKENS = 16


@dataclass(frozen=True)
class Marks:
    """Which of the positions from ``first`` on are held, eight to a byte: ``bits`` uint8 [B, (H,) m]. ``length`` slots, holes in front."""

    bits: Tensor
    first: int
    length: int

    @staticmethod
    def of(positions: Tensor) -> Marks | None:
        """int64 [B, (H,) L], where the tokens of every row ascend behind its holes and a list would be longer; else None."""
        held = positions >= 0
        if not bool(held.any()) or not bool((positions.diff(dim=-1) > 0)[held[..., :-1]].all()):
            return None
        first = int(positions[held].min())
        span = int(positions.max()) - first + 1
        if -(-span // 8) >= positions.shape[-1] * torch.int32.itemsize:
            return None
        room = -(-span // 8) * 8
        marked = torch.zeros(*positions.shape[:-1], room + 1, dtype=torch.uint8, device=positions.device)
        marked = marked.scatter_(-1, torch.where(held, positions - first, room), 1)[..., :room]  # the last one takes the holes
        weights = 1 << torch.arange(8, dtype=torch.uint8, device=positions.device)
        bits = (marked.view(*marked.shape[:-1], -1, 8) * weights).sum(dim=-1, dtype=torch.uint8)
        return Marks(bits, first, positions.shape[-1])

    def listed(self) -> Tensor:
        """int64 [B, (H,) length], holes (−1) in front."""
        shifts = torch.arange(8, dtype=torch.uint8, device=self.bits.device)
        marked = ((self.bits[..., None] >> shifts) & 1).flatten(-2).bool()
        rank = marked.cumsum(dim=-1) - 1
        holes = self.length - 1 - rank[..., -1:]
        slot = torch.where(marked, rank + holes, self.length)  # one slot too many takes what is not held
        out = torch.full((*marked.shape[:-1], self.length + 1), -1, dtype=torch.long, device=self.bits.device)
        at = torch.arange(self.first, self.first + marked.shape[-1], device=self.bits.device)
        return out.scatter_(-1, slot, at.expand_as(slot))[..., : self.length]


@dataclass(frozen=True)
class Places:
    """``old`` slots, then ``count`` tokens in sequence, in row b from ``starts[b]`` on. A change gives a new one, which may take over
    the buffer of the one before.

    ``old`` is a `Marks`, or a buffer int32 [B, (H,) ≥ used] of which the first ``used`` slots are in use. ``starts`` are plain numbers:
    comparing them at every layer and step must not wait for a device.
    """

    old: Marks | Tensor
    used: int
    starts: tuple[int, ...]
    count: int

    @staticmethod
    def of(positions: Tensor, *, plain: bool = False) -> Places:
        """For int64 ``positions`` [B, (H,) L]; ``plain`` leaves them a list, for caches that change them at every step."""
        n = positions.shape[-1]
        none = positions.new_empty(*positions.shape[:-1], 0, dtype=torch.int32)
        if positions.dim() == 2 and n and (starts := sequence_of(positions)) is not None:
            return Places(none, 0, starts, n)
        marks = None if plain or not n else Marks.of(positions)
        return Places(marks if marks is not None else positions.to(torch.int32), n, (), 0)

    @property
    def length(self) -> int:
        return self.used + self.count

    def listed(self) -> Tensor:
        """int64 [B, L] or [B, H, L], −1 for holes."""
        old = self.old.listed() if isinstance(self.old, Marks) else self.old[..., : self.used].long()
        if not self.count:
            return old
        run = torch.tensor(self.starts, device=old.device)[:, None] + torch.arange(self.count, device=old.device)
        run = heads_of(run, old.shape[1]) if old.dim() == 3 else run
        return torch.cat([old, run], dim=-1) if self.used else run

    def append(self, positions: Tensor, starts: tuple[int, ...] | None) -> Places:
        """With new tokens at ``positions`` [B, n]. ``starts`` are the first ones of rows whose new tokens follow each other, else None."""
        n = positions.shape[-1]
        if starts is not None and (not self.count or starts == tuple(start + self.count for start in self.starts)):
            return Places(self.old, self.used, self.starts if self.count else starts, self.count + n)
        listed = self if not self.count and isinstance(self.old, Tensor) else self.as_list()
        return listed._write(positions)

    def as_list(self) -> Places:
        """The same with every position written out."""
        return Places(self.listed().to(torch.int32), self.length, (), 0)

    def _write(self, positions: Tensor) -> Places:
        assert isinstance(self.old, Tensor)
        old, n = self.old, positions.shape[-1]
        if self.used + n > old.shape[-1]:
            room = max(self.used + n, int(self.used * GROWTH) + SLACK_TOKENS)
            grown = old.new_full((*old.shape[:-1], room), -1)
            grown[..., : self.used] = old[..., : self.used]
            old = grown
        old[..., self.used : self.used + n] = positions if old.dim() == 2 else positions[:, None, :]
        return replace(self, old=old, used=self.used + n)

    def drop_first(self, n: int) -> Places:
        """Without the ``n`` oldest slots."""
        if not n:
            return self
        if not self.used:
            return replace(self, starts=tuple(start + n for start in self.starts), count=self.count - n)
        return Places.of(self.listed()[..., n:].contiguous(), plain=True)

    def drop_last(self, n: int) -> Places:
        """Without the ``n`` newest slots."""
        if n <= self.count:
            return replace(self, count=self.count - n)
        return Places.of(self.listed()[..., : self.length - n].contiguous(), plain=True)

    def rows(self, index: Tensor) -> Places:
        """Batch rows ``index`` [B'], in memory of their own."""
        if isinstance(self.old, Marks):
            old: Marks | Tensor = replace(self.old, bits=self.old.bits.index_select(0, index))
        else:
            old = self.old[..., : self.used].index_select(0, index)
        starts = tuple(self.starts[i] for i in index.tolist()) if self.count else ()
        return replace(self, old=old, starts=starts)

    def tensors(self) -> list[Tensor]:
        """Everything that is held, for counting bytes."""
        return [self.old.bits if isinstance(self.old, Marks) else self.old]


def sequence_of(positions: Tensor) -> tuple[int, ...] | None:
    """The first position of every row, if each row of ``positions`` [B, n] holds tokens that follow each other; else None."""
    first = positions[:, :1]
    expected = first + torch.arange(positions.shape[-1], device=positions.device)
    return tuple(first[:, 0].tolist()) if bool(((positions == expected) & (positions >= 0)).all()) else None
