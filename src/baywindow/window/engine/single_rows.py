"""One row of a batch with its holes taken out, and back: for patterns that want ranks instead of slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from baywindow.window.base import State
from baywindow.window.block import Block
from baywindow.window.engine.attending import Allowed, Attending, by_query_head
from baywindow.window.positions.base import Branch


@dataclass
class Row:
    """``new`` are the queries of the row that are tokens, ``slots`` [1, 1 or H, m] the keys that are; ``attending`` speaks of these alone,
    and is None where the row has no query or its heads hold unequal numbers of tokens. ``out`` [1, len(new), Hq, Dv] if it was read."""

    new: Tensor
    slots: Tensor | None
    attending: Attending | None
    state: State
    out: Tensor | None = None


def row_of(attending: Attending, b: int, state: State, allowed_rows: Callable[[Tensor, Tensor, Block], Allowed]) -> Row:
    """Row ``b``. ``allowed_rows(query, q_pos, block)`` makes the mask of its tokens."""
    new = (attending.q_pos[b] >= 0).nonzero().flatten()
    slots = _slots(attending.block.positions[b])
    if slots is None or not len(new):
        return Row(new, slots, None, state)
    block = attending.block
    mine = Block(keys=block.keys[b : b + 1], values=block.values[b : b + 1], positions=block.positions[b : b + 1]).take(slots)
    query, q_pos = attending.query[b : b + 1, :, new], attending.q_pos[b : b + 1, new]
    asked = attending.asked
    if asked is not None:
        at = slots if asked.k_pos.dim() == 3 else slots[:, :1]
        k_pos = _of_keys(asked.k_pos[b : b + 1], at)
        asked = replace(asked, q_pos=asked.q_pos[b : b + 1, new], k_pos=k_pos, q=query, k=mine.keys)
    sub = Attending(
        layer=attending.layer,
        q=attending.q[b : b + 1, :, new],
        block=mine,
        allowed=allowed_rows(query, q_pos, mine),
        branches=None if attending.branches is None else [_branch(branch, b, new, slots) for branch in attending.branches],
        asked=asked,
        turner=attending.turner,
        query=query,
        q_pos=q_pos,
    )
    return Row(new, slots, sub, state)


def _slots(positions: Tensor) -> Tensor | None:
    """The slots of one row's ``positions`` [L] or [H, L] that hold a token: [1, 1 or H, m]; None for unequal heads."""
    held = positions.view(-1, positions.shape[-1]) >= 0
    counts = held.sum(dim=-1)
    return held.nonzero()[:, 1].view(1, held.shape[0], -1) if bool((counts == counts[0]).all()) else None


def _branch(branch: Branch, b: int, new: Tensor, slots: Tensor) -> Branch:
    q_at, scale = branch.q_at[b : b + 1], branch.query_scale
    return replace(
        branch,
        q_at=q_at.index_select(1 if q_at.dim() == 2 else 2, new),
        k_at=_of_keys(branch.k_at[b : b + 1], slots),
        query_scale=None if scale is None else scale[b : b + 1].index_select(scale.dim() - 1, new),
    )


def _of_keys(at: Tensor, slots: Tensor) -> Tensor:
    """A tensor over keys ([1, L], [1, h, L] or [1, h, L, F]) at the slots [1, 1 or H, m]."""
    if at.dim() == 2 and slots.shape[1] == 1:
        return at.gather(1, slots[:, 0])
    at = at[:, None] if at.dim() == 2 else at
    heads = max(at.shape[1], slots.shape[1])
    at = at.expand(-1, heads, *at.shape[2:])
    slots = slots.repeat_interleave(heads // slots.shape[1], dim=1)
    return at.gather(2, slots if at.dim() == 3 else slots[..., None].expand(-1, -1, -1, at.shape[-1]))


def merge_states(state: State, rows: list[State]) -> None:
    """Put what each row wrote into tensors with the batch first; −1 where a row is shorter."""
    for name in {name for row in rows for name in row}:
        one = next(row[name] for row in rows if name in row)
        shape = [max(row[name].shape[d] for row in rows if name in row) for d in range(1, one.dim())]
        whole = one.new_full((len(rows), *shape), -1)
        for b, row in enumerate(rows):
            if name in row:
                part = whole[b]
                for d, size in enumerate(row[name].shape[1:]):
                    part = part.narrow(d, 0, size)
                part.copy_(row[name][0])
        state[name] = whole


def seen_by_rows(attending: Attending, rows: list[Row]) -> Callable[[int, int], Tensor]:
    """What the rows read, in slots of the batch: bool [B, Hq, queries, L]; True for a row that read everything."""
    layer, length = attending.layer, attending.block.length

    def seen(start: int, stop: int) -> Tensor:
        out = torch.ones(len(rows), layer.q_heads, stop - start, length, dtype=torch.bool, device=attending.q.device)
        for b, row in enumerate(rows):
            ranks = ((row.new >= start) & (row.new < stop)).nonzero().flatten()
            if row.out is None or row.attending is None or row.slots is None or not len(ranks):
                continue
            mask = by_query_head(row.attending.allowed(int(ranks[0]), int(ranks[-1]) + 1), layer)[0].expand(layer.q_heads, -1, -1)
            slots = row.slots[0].repeat_interleave(layer.q_heads // row.slots.shape[1], dim=0)
            whole = torch.zeros(*mask.shape[:2], length, dtype=torch.bool, device=mask.device)
            whole.scatter_(2, slots[:, None, :].expand(-1, mask.shape[1], -1), mask)
            out[b, :, row.new[ranks] - start] = whole
        return out

    return seen
