"""Old tokens laid apart from the device, to be read by slot: a lookup brings back what it asks for, and nothing else.

A shelf is a stored segment that keeps the slots as they were in the tail, holes included, so whoever knows tokens by slot goes on to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from baywindow.window.block import Block, Flat
from baywindow.window.caches.base import Segment
from baywindow.window.engine.places import GROWTH, Places, sequence_of
from baywindow.window.engine.room import Room

PIECE = 4096  # slots copied at once when a shelf needs more room: no more of them is in memory


@dataclass(eq=False)
class Buffer:
    """A room and how many of its slots are written. Shelves that were one share it; only one that ends where it ends may write on."""

    room: Room
    used: int


class Shelf(Segment):
    """Slots at the ``places`` in the first part of a ``buffer``, read to ``device``."""

    def __init__(self, buffer: Buffer, places: Places, counts: Tensor, device: torch.device) -> None:
        self._buffer, self._places, self.counts, self.device = buffer, places, counts, device
        self.length = places.length

    @staticmethod
    def of(block: Block) -> Shelf:
        """A new one that holds this."""
        room = Room.like(block, max(1, int(block.length * GROWTH)))
        none = torch.zeros(block.keys.shape[:2], dtype=torch.long)
        return Shelf(Buffer(room, 0), Places.of(block.positions[..., :0]), none, block.keys.device).append(block)

    @property
    def positions(self) -> Tensor:
        """int64 [B, L] or [B, H, L], on the device."""
        return self._places.listed()

    def append(self, block: Block) -> Shelf:
        """This with a block behind it. The room is shared with what this was, unless another shelf has written there since."""
        n, end = block.length, self.length
        places = _behind(self._places, block.positions)
        buffer = self._buffer if self._buffer.used == end else None
        if buffer is None or end + n > buffer.room.keys.shape[2]:
            buffer = self._moved(Room.like(block, int((end + n) * GROWTH)))
        buffer.room.keys[:, :, end : end + n] = block.keys
        buffer.room.values[:, :, end : end + n] = block.values
        buffer.room.let_go()
        buffer.used = end + n
        return Shelf(buffer, places, self.counts + block.held.cpu(), self.device)

    def _moved(self, room: Room) -> Buffer:
        old = self._buffer.room
        for start in range(0, self.length, PIECE):
            stop = min(self.length, start + PIECE)
            room.keys[:, :, start:stop] = old.keys[:, :, start:stop]
            room.values[:, :, start:stop] = old.values[:, :, start:stop]
            room.let_go()
            old.let_go()
        return Buffer(room, self.length)

    def rows_at(self, of: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Single slots [n] of the heads ``of`` [n] (head + H · row): keys [n, D] and values [n, Dv]."""
        room = self._buffer.room
        at = (of * room.keys.shape[2] + slots).to(room.keys.device)
        keys, values = (t.view(-1, t.shape[3]).index_select(0, at).to(self.device) for t in (room.keys, room.values))
        room.let_go()
        return keys, values

    def before(self, near: Block, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """All keys and values of these slots, and of ``near`` behind them, in memory of their own."""
        room = self._buffer.room
        far = (t[:, :, start:stop].to(self.device) for t in (room.keys, room.values))
        keys, values = (torch.cat(pair, dim=2) for pair in zip(far, (near.keys, near.values), strict=True))
        room.let_go()
        return keys, values

    def flat(self) -> Flat:
        room = self._buffer.room
        keys, values = (t[:, :, : self.length].to(self.device) for t in (room.keys, room.values))
        found = Flat.of(Block(keys=keys, values=values, positions=self.positions))
        room.let_go()
        return found

    def rows(self, index: Tensor) -> Shelf:
        room = self._buffer.room
        at = index.to(room.keys.device)
        keys, values = (t[:, :, : self.length].index_select(0, at).to(self.device) for t in (room.keys, room.values))
        room.let_go()
        return Shelf.of(Block(keys=keys, values=values, positions=self.positions.index_select(0, index.to(self.device))))

    def tensors(self) -> dict[str, Tensor]:
        room, held = self._buffer.room, self._places
        where = {"positions": held.listed().int()} if held.used else {"starts": torch.tensor(held.starts)}
        return {"keys": room.keys[:, :, : self.length], "values": room.values[:, :, : self.length], "counts": self.counts, **where}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Shelf:
        keys, positions = tensors["keys"], tensors.get("positions")
        if positions is None:
            positions = tensors["starts"].to(keys.device)[:, None] + torch.arange(keys.shape[2], device=keys.device)
        return cls.of(Block(keys=keys, values=tensors["values"], positions=positions.long()))


def _behind(places: Places, positions: Tensor) -> Places:
    """With ``positions`` [B, (H,) n] behind, in memory of their own where they are listed: what wrote there may have forgotten nothing."""
    starts = sequence_of(positions) if positions.dim() == 2 and not places.used else None
    if starts is not None and (not places.count or starts == tuple(start + places.count for start in places.starts)):
        return places.append(positions, starts)
    return Places.of(torch.cat([places.listed(), positions], dim=-1) if places.length else positions)
