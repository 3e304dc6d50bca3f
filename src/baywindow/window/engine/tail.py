"""A growing buffer of plain keys and values: the part of a store that new tokens are written to."""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.window.base import heads_of
from baywindow.window.block import Block

GROWTH = 1.25
SLACK_TOKENS = 16


class Tail:
    """Slots ``start`` to ``end`` are in use. The first write is taken over without a copy where the tensors own their memory."""

    def __init__(self, block: Block) -> None:
        self.keys = own(block.keys)
        self.values = own(block.values)
        self.positions = own(block.positions)
        self.tags = dict(block.tags)
        self.start = 0
        self.end = block.length

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def block(self) -> Block:
        """A view of what is held."""
        n = len(self)
        return Block(
            keys=self.keys.narrow(2, self.start, n),
            values=self.values.narrow(2, self.start, n),
            positions=self.positions.narrow(-1, self.start, n),
            tags=self.tags,
        )

    def append(self, keys: Tensor, values: Tensor, positions: Tensor) -> None:
        """New tokens [B, H, n, …] at ``positions`` [B, n]; tags of new tokens are 0."""
        n = keys.shape[2]
        if self.end + n > self.keys.shape[2]:
            self._make_room(n)
        self.keys[:, :, self.end : self.end + n] = keys
        self.values[:, :, self.end : self.end + n] = values
        self.positions[..., self.end : self.end + n] = positions if self.positions.dim() == 2 else positions[:, None, :]
        self.tags = {name: torch.nn.functional.pad(tag, (0, n)) for name, tag in self.tags.items()}
        self.end += n

    def drop_first(self, n: int) -> None:
        """Forget the ``n`` oldest slots. Their memory is reused at the next growth, or freed now if growth would ask for less."""
        self.start += n
        self.tags = {name: tag[..., n:] for name, tag in self.tags.items()}
        self._free_spare()

    def drop_last(self, n: int) -> None:
        self.end -= n
        self.tags = {name: tag[..., : tag.shape[-1] - n] for name, tag in self.tags.items()}
        self._free_spare()

    def _free_spare(self) -> None:
        if self.keys.shape[2] > int(len(self) * GROWTH) + 2 * SLACK_TOKENS:
            self._make_room(0)

    def _make_room(self, n: int) -> None:
        used = len(self)
        capacity = max(used + n, int(used * GROWTH) + SLACK_TOKENS)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(*old.shape[:2], capacity, old.shape[3])
            new[:, :, :used] = old.narrow(2, self.start, used)
            setattr(self, name, new)
        positions = self.positions.new_full((*self.positions.shape[:-1], capacity), -1)
        positions[..., :used] = self.positions.narrow(-1, self.start, used)
        self.positions = positions
        self.start, self.end = 0, used

    def per_head(self) -> None:
        """Give every key/value head positions of its own."""
        self.positions = heads_of(self.positions, self.keys.shape[1]).contiguous()


def own(x: Tensor) -> Tensor:
    """``x`` contiguous and alone in its memory, so that holding it holds nothing else."""
    x = x.contiguous()
    return x if x.untyped_storage().nbytes() == x.numel() * x.element_size() else x.clone()
