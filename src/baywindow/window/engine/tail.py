"""A growing buffer of plain keys and values: the part of a store that new tokens are written to."""

from __future__ import annotations

from torch import Tensor

from baywindow.window.block import Block
from baywindow.window.engine.places import GROWTH, SLACK_TOKENS, Places


class Tail:
    """Slots ``start`` to ``end`` are in use. The first write is taken over without a copy where the tensors own their memory.

    ``places`` are the positions where they are known already; ``plain`` says that slots will be dropped at every step.
    """

    def __init__(self, block: Block, *, places: Places | None = None, plain: bool = False) -> None:
        self.keys = own(block.keys)
        self.values = own(block.values)
        self.places = places if places is not None else Places.of(block.positions, plain=plain)
        self.tags = dict(block.tags)
        self._rooms: dict[str, tuple[Tensor, Tensor]] = {}  # by tag: a view that `append` made of a buffer, and the buffer
        self.start = 0
        self.end = block.length

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def block(self) -> Block:
        """A view of what is held. Its positions are written out when somebody asks for them."""
        n = len(self)
        return Block.unread(
            keys=self.keys.narrow(2, self.start, n), values=self.values.narrow(2, self.start, n), tags=self.tags, read=self.places.listed
        )

    def append(self, keys: Tensor, values: Tensor, positions: Tensor, starts: tuple[int, ...] | None = None) -> None:
        """New tokens [B, H, n, …] at ``positions`` [B, n], whose rows begin at ``starts`` if they are in sequence; tags of new tokens
        are 0."""
        n = keys.shape[2]
        if self.end + n > self.keys.shape[2]:
            self._make_room(n)
        self.keys.narrow(2, self.end, n).copy_(keys)
        self.values.narrow(2, self.end, n).copy_(values)
        self.places = self.places.append(positions, starts)
        for name in self.tags:
            self._grow_tag(name, n)
        self.end += n

    def _grow_tag(self, name: str, n: int) -> None:
        """``n`` zeros behind a tag: in its buffer, unless somebody put another tensor in its place."""
        tag = self.tags[name]
        view, room = self._rooms.get(name, (None, tag))
        used = tag.shape[-1]
        if view is not tag or used + n > room.shape[-1]:
            room = tag.new_zeros(*tag.shape[:-1], max(used + n, int(used * GROWTH) + SLACK_TOKENS))
            room[..., :used] = tag
        room.narrow(-1, used, n).zero_()
        self.tags[name] = room.narrow(-1, 0, used + n)
        self._rooms[name] = (self.tags[name], room)

    def drop_first(self, n: int) -> None:
        """Forget the ``n`` oldest slots. Their memory is reused at the next growth, or freed now if growth would ask for less."""
        self.start += n
        self.places = self.places.drop_first(n)
        self.tags = {name: tag[..., n:] for name, tag in self.tags.items()}
        self._free_spare()

    def drop_last(self, n: int) -> None:
        self.end -= n
        self.places = self.places.drop_last(n)
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
        self.start, self.end = 0, used

    def rows(self, index: Tensor) -> Tail:
        """Batch rows ``index`` [B'], in memory of their own."""
        places, held = self.places.rows(index), self.block
        keys, values = held.keys.index_select(0, index), held.values.index_select(0, index)
        tags = {name: tag.index_select(0, index) for name, tag in held.tags.items()}
        return Tail(Block.unread(keys=keys, values=values, tags=tags, read=places.listed), places=places)

    def tensors(self) -> list[Tensor]:
        """Everything that is held, spare room included."""
        return [self.keys, self.values, *self.places.tensors(), *self.tags.values()]


def own(x: Tensor) -> Tensor:
    """``x`` contiguous and alone in its memory, so that holding it holds nothing else."""
    x = x.contiguous()
    return x if x.untyped_storage().nbytes() == x.numel() * x.element_size() else x.clone()
