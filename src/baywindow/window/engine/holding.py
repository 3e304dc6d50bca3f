"""What one layer holds, and what the engine does with it: stored segments, then a growing tail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.window.base import LayerInfo, State
from baywindow.window.block import Block, Flat, tensor_bytes
from baywindow.window.caches.base import PlainSegment, Segment
from baywindow.window.engine.apart import Apart, Looked
from baywindow.window.engine.shelf import Shelf
from baywindow.window.engine.tail import Tail


@dataclass
class Watched:
    """The last un-rotated queries [B, Hq, w, D] with their positions [B, w] (−1: none)."""

    queries: Tensor
    q_pos: Tensor


class Holding:
    """One layer's keys and values, new ones last. ``sliding_window`` layers hold what their window still needs and never more."""

    def __init__(self, layer: LayerInfo) -> None:
        self.layer = layer
        self.seen = 0  # slots that went in, padding included
        self.segments: list[Segment] = []
        self.tail: Tail | None = None
        self.states: dict[str, State] = {}
        self.watched: Watched | None = None
        self.looked: Looked | None = None  # what the last lookup brought back of what lies apart
        self.holes = False  # some slot of the view may hold nothing
        self.gaps = False  # some row has padding behind a token
        self.pristine = True  # holds what every other pristine layer of its kind holds
        self.moved = False  # slots that a recaller may know by number lie elsewhere now, or are gone
        self.record_past = False
        self.probed = 0  # slots the last append brought, while the past is recorded

    @property
    def batch_size(self) -> int:
        if self.tail is not None:
            return self.tail.keys.shape[0]
        return self.segments[0].counts.shape[0] if self.segments else -1

    def append(self, keys: Tensor, values: Tensor, positions: Tensor, starts: tuple[int, ...] | None, *, padded: bool) -> None:
        """New tokens [B, H, n, …] at true ``positions`` [B, n] (−1: padding); ``starts`` as for `Tail.append`."""
        if padded:
            self.gaps = self.gaps or self.seen > 0 or bool((positions[:, -1] < 0).any())
            self.holes = True
        positions = positions.expand(keys.shape[0], -1)
        if self.batch_size not in (-1, keys.shape[0]):
            raise ConfigError(
                f"the cache holds {self.batch_size} sequences and was given {keys.shape[0]}", hint="one cache belongs to one batch"
            )
        if self.tail is None:
            self.tail = Tail(Block(keys=keys, values=values, positions=positions))
        else:
            self.tail.append(keys, values, positions, starts)
        self.seen += keys.shape[2]
        self.probed = keys.shape[2] if self.record_past else 0

    def take_back(self, n: int) -> None:
        """Forget the last ``n`` slots of a probing forward, if they came in."""
        if self.tail is not None and len(self.tail) >= n and self.probed == n:
            self.tail.drop_last(n)
            self.seen -= n
        self.probed = 0

    @property
    def shelf(self) -> Shelf | None:
        """What lies apart. Nothing else is stored beside it."""
        return self.segments[0] if self.segments and isinstance(self.segments[0], Shelf) else None

    def view(self) -> Block:
        """Everything held, oldest first; the tail is a view of its buffer, what lies apart is read when asked for, other segments now."""
        if self.tail is not None and not self.segments:
            return self.tail.block
        if self.tail is not None and (shelf := self.shelf) is not None:
            return Apart.of(shelf, 0, shelf.length, self.tail.block)
        blocks = [segment.flat().block() for segment in self.segments]
        if self.tail is not None:
            blocks.append(self.tail.block)
        return Block.join(blocks)

    def replace(self, block: Block, *, dense: bool) -> None:
        """Hold this and nothing else: as a tail where all rows and heads hold the same number (or ``dense`` asks for it, at the price
        of holes), else end to end."""
        held = block.held
        self.pristine, self.moved, self.looked = False, True, None
        if dense or int(held.min()) == int(held.max()):
            self.segments = []
            self.tail = Tail(block, plain=dense)
            self.holes = bool((block.positions < 0).any())
        else:
            self.segments = [PlainSegment(Flat.of(block))]
            self.tail = Tail(Block(keys=block.keys[:, :, :0], values=block.values[:, :, :0], positions=block.head_positions[:, :, :0]))
            self.holes = True

    def absorb(self, forks: Sequence[Holding], first: Tensor) -> None:
        """Hold, behind what is held, what ``forks`` of this store have read at positions from ``first`` [B] on."""
        blocks = [self.view()] if self.tail is not None else []
        for fork in forks:
            block = fork.view()
            blocks.append(block.keep(block.head_positions >= first.to(block.keys.device)[:, None, None]))
        whole = Block.join(blocks)
        self.replace(whole.keep(whole.head_positions >= 0), dense=True)
        self.seen = max(self.seen, *(fork.seen for fork in forks))
        self.gaps, self.is_initialized = True, True

    def pack(self, group: int, residual: int, encode: Callable[[Flat], Segment]) -> None:
        """Move the oldest plain tokens, in whole groups, into an encoded segment; at least ``residual`` a row and head stay plain."""
        if self.tail is not None:
            self.pack_first(((self.plain().held - residual).clamp(min=0) // group) * group, encode)

    def plain(self) -> Block:
        """What is not packed yet, oldest first."""
        assert self.tail is not None
        return Block.join([s.flat().block() for s in self.segments if isinstance(s, PlainSegment)] + [self.tail.block])

    def pack_first(self, counts: Tensor, encode: Callable[[Flat], Segment]) -> None:
        """Move the oldest ``counts`` [B, H] plain tokens into an encoded segment."""
        if not bool((counts > 0).any()):
            return
        old, rest = self.plain().split(counts)
        self.segments = [s for s in self.segments if not isinstance(s, PlainSegment)] + [encode(Flat.of(old))]
        self.tail = Tail(rest)
        self.pristine = False
        even = _even(self.segments) and not bool((rest.positions < 0).any())
        self.moved, self.holes = self.moved or self.holes or not even, not even

    def move(self, group: int | None, put: Callable[[Segment, torch.device], Segment]) -> None:
        """Hand what is stored to a mover, and the tail with it once it holds ``group`` tokens (None: never, it waits to be packed)."""
        if self.tail is None:
            return
        device = self.tail.keys.device
        block = self.tail.block
        if group is not None and block.length >= group:
            self.segments.append(PlainSegment(Flat.of(block)))
            self.tail = Tail(block.take(torch.empty(block.keys.shape[0], 1, 0, dtype=torch.long, device=device)))
            self.pristine, self.moved = False, self.moved or self.holes
        self.segments = [put(segment, device) for segment in self.segments]

    def lay_apart(self, near: int, group: int) -> None:
        """Move all but the newest ``near`` slots to the shelf, if there are ``group`` of them. Tokens that carry tags stay."""
        if self.tail is None or self.tail.tags or len(self.tail) - near < group or (self.segments and self.shelf is None):
            return
        old = self.tail.block.first(len(self.tail) - near)
        self.segments = [Shelf.of(old) if self.shelf is None else self.shelf.append(old)]
        self.tail.drop_first(old.length)
        self.pristine = False

    def trim(self) -> None:
        """Forget what the sliding window can no longer reach. By position, not by slot: a row with padding in its middle reaches
        further back in slots."""
        if not self.layer.is_sliding or self.record_past or self.tail is None:
            return
        window = self.layer.sliding_window or 0
        if not self.gaps:
            self.tail.drop_first(max(0, len(self.tail) - (window - 1)))
            return
        positions = self.tail.block.positions
        needed = (positions >= positions.amax(dim=1, keepdim=True) + 2 - window).any(dim=0) & (positions >= 0).any(dim=0)
        first = int(needed.float().argmax()) if bool(needed.any()) else len(self.tail)
        self.tail.drop_first(first)

    def remember(self, queries: Tensor, q_pos: Tensor, window: int) -> None:
        """Keep the last ``window`` queries for policies that let them vote."""
        if self.watched is not None:
            queries = torch.cat([self.watched.queries, queries], dim=2)
            q_pos = torch.cat([self.watched.q_pos, q_pos], dim=1)
        self.watched = Watched(queries[:, :, -window:].clone(), q_pos[:, -window:].clone())

    def forget(self, names: frozenset[str]) -> None:
        """Free what these policies kept of the prompt, and the remembered queries with it; nothing happens where there are none."""
        if not names:
            return
        self.watched = None
        for name in names:
            self.states.pop(name, None)

    def held(self) -> Tensor:
        """Tokens held per row and head: [B, H] on the CPU."""
        counts = sum((s.counts for s in self.segments), torch.zeros((), dtype=torch.long))
        return counts + (self.tail.block.held.cpu() if self.tail is not None else 0)

    def tensors(self) -> list[Tensor]:
        found = [t for s in self.segments for t in s.tensors().values()]
        if self.tail is not None:
            found += self.tail.tensors()
        found += [t for state in self.states.values() for t in state.values()]
        found += self.looked.tensors() if self.looked else []
        return found + ([self.watched.queries, self.watched.q_pos] if self.watched else [])

    def nbytes(self) -> int:
        """Bytes really held, spare room, positions and policies' own state included."""
        return tensor_bytes(*self.tensors())

    def rows(self, index: Tensor) -> None:
        """Hold the batch rows ``index`` [B'] instead."""
        self.looked = None
        if self.holes and self.segments and self.shelf is None:
            self.moved = True  # what is stored end to end is padded to its longest row
        self.segments = [s.rows(index) for s in self.segments]
        if self.tail is not None:
            self.tail = self.tail.rows(index.to(self.tail.keys.device))
        for state in self.states.values():
            for name, tensor in state.items():
                state[name] = tensor.index_select(0, index.to(tensor.device))
        if self.watched is not None:
            at = index.to(self.watched.q_pos.device)
            self.watched = Watched(self.watched.queries.index_select(0, at), self.watched.q_pos.index_select(0, at))


def _even(segments: list[Segment]) -> bool:
    return all(int(s.counts.min()) == int(s.counts.max()) for s in segments if s.counts.numel())
