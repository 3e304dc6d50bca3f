"""A view of tokens of which the older ones lie apart: what is asked for by slot is read by slot, and the rest stays where it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from baywindow.window.base import heads_of
from baywindow.window.block import Block
from baywindow.window.engine.shelf import Shelf


@dataclass(frozen=True, eq=False)
class Looked:
    """What the last lookup brought back, on the device: ``keys`` [B, H, m, D] and ``values`` of the slots ``index`` [B, H, m] (−1: none).
    The next lookup fetches only what is not among them."""

    index: Tensor
    keys: Tensor
    values: Tensor

    def places(self, slots: Tensor, length: int) -> Tensor:
        """Where ``slots`` [B, H, n] below ``length`` stand here, −1 where they do not."""
        B, H, m = self.index.shape
        known = torch.where((self.index >= 0) & (self.index < length), self.index, length)  # one place too many takes the rest
        found = torch.full((B, H, length + 1), -1, dtype=torch.long, device=known.device)
        found.scatter_(-1, known, torch.arange(m, device=known.device).expand_as(known))
        found[..., length] = -1
        return found.gather(-1, torch.where((slots >= 0) & (slots < length), slots, length))

    def tensors(self) -> list[Tensor]:
        return [self.index, self.keys, self.values]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """``keys`` and ``values`` of what was looked up, and what to remember of it. ``apart`` of the tokens lie apart, ``brought`` of these
    were not there any more from the last lookup."""

    keys: Tensor
    values: Tensor
    looked: Looked
    apart: int
    brought: int


class Apart(Block):
    """The slots ``begin`` to ``end`` of a shelf, then those of ``near``. Whoever asks for all keys or values gets a copy on the device."""

    shelf: Shelf
    begin: int
    end: int
    near: Block

    @staticmethod
    def of(shelf: Shelf, begin: int, end: int, near: Block) -> Apart:
        block = object.__new__(Apart)
        block.__dict__.update(shelf=shelf, begin=begin, end=end, near=near, tags={})
        return block

    def __getattr__(self, name: str) -> Tensor:
        own = self.__dict__
        if name in ("keys", "values"):
            own["keys"], own["values"] = self.shelf.before(self.near, self.begin, self.end)
        elif name == "positions":
            parts = [self.shelf.positions[..., self.begin : self.end], self.near.positions]
            per_head = any(part.dim() == 3 for part in parts)
            own[name] = torch.cat([heads_of(part, self.heads) if per_head else part for part in parts], dim=-1)
        else:
            raise AttributeError(name)
        found: Tensor = own[name]
        return found

    @property
    def far(self) -> int:
        """Slots that lie apart."""
        return self.end - self.begin

    @property
    def length(self) -> int:
        return self.far + self.near.length

    @property
    def heads(self) -> int:
        return self.near.heads

    def part(self, start: int, stop: int) -> Block:
        near = self.near.part(max(0, start - self.far), max(0, stop - self.far))
        if start >= self.far:
            return near
        return Apart.of(self.shelf, self.begin + start, self.begin + min(stop, self.far), near)

    def read(self, at: Tensor) -> tuple[Tensor, Tensor]:
        found = self.fetch(at, None)
        return found.keys, found.values

    def fetch(self, index: Tensor, last: Looked | None) -> Fetched:
        """The slots ``index`` [B, H, n] (−1: zeros), those that lie apart from ``last`` as far as they are there."""
        apart = (index >= 0) & (index < self.far)
        columns = apart.flatten(0, 1).any(dim=0).nonzero()
        far = int(columns.max()) + 1 if len(columns) else 0  # whatever lies apart is in the first columns, as recallers name tokens
        keys, values = (t.new_zeros(*index.shape, t.shape[3]) for t in (self.near.keys, self.near.values))
        self._read_near(index, far, keys, values)
        head, missing = index[..., :far] + self.begin, apart[..., :far]
        heads = torch.arange(index.shape[0] * index.shape[1], device=index.device).view(*index.shape[:2], 1).expand_as(head)
        if last is not None:
            place = last.places(head, self.end)
            here = missing & (place >= 0)
            at = (heads * last.keys.shape[2] + place)[here]
            keys[:, :, :far][here], values[:, :, :far][here] = (t.flatten(0, 2)[at] for t in (last.keys, last.values))
            missing = missing & ~here
        brought = heads[missing]
        if len(brought):
            keys[:, :, :far][missing], values[:, :, :far][missing] = self.shelf.rows_at(brought, head[missing])
        remembered = Looked(torch.where(apart[..., :far], head, -1), keys[:, :, :far].clone(), values[:, :, :far].clone())
        return Fetched(keys=keys, values=values, looked=remembered, apart=int(apart.sum()), brought=len(brought))

    def _read_near(self, index: Tensor, far: int, keys: Tensor, values: Tensor) -> None:
        """Fill in what does not lie apart: columns from ``far`` on, and single slots before them."""
        for part in (slice(far, None), slice(0, far)):
            at = index[..., part] - self.far
            here = at >= 0
            if not bool(here.any()):
                continue
            for to, read in zip((keys, values), self.near.read(at.clamp(min=0)), strict=True):
                if bool(here.all()):
                    to[:, :, part] = read
                else:
                    to[:, :, part][here] = read[here]
