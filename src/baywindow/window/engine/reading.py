"""The engine's side of patterns that say what is read: show them rows without holes, and attend to what they chose.

A batch without holes is one job. Otherwise every row is a job of its own with its padding taken out, so a row gets in a batch what it
gets alone. Where the order of slots is not the order of positions (parallel contexts, what a recaller picked), or heads hold unequal
numbers of tokens, the forward attends to everything that is held: ranks would not say what is past.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from baywindow.window.base import State
from baywindow.window.block import LOG_TOKENS
from baywindow.window.engine.angles import scaled
from baywindow.window.engine.attending import Attending, by_query_head
from baywindow.window.engine.block_rows import Turned, attend_blocks, pairs_read
from baywindow.window.engine.flex import attend_flex
from baywindow.window.engine.single_rows import Row, merge_states, row_of, seen_by_rows
from baywindow.window.patterns.base import BlockPattern, Glance, OwnKernel
from baywindow.window.positions.base import Branch

if TYPE_CHECKING:
    from baywindow.window.engine.layer import LayerRun


def read(run: LayerRun, attending: Attending) -> Tensor | None:
    """The output [B, n, Hq, Dv] where the recipe's pattern chooses what this forward reads, else None. What ``attending.allowed`` says
    afterwards is what was read."""
    pattern, n = run.pattern, attending.q.shape[2]
    if not isinstance(pattern, BlockPattern | OwnKernel) or (n == 1 and not pattern.decodes):
        return None
    if LOG_TOKENS in attending.block.tags:  # these kernels know nothing of tokens that stand for several
        return None
    cache = run.runtime.forward.cache
    lasting = run.store is not None and (cache is None or cache.mode != "probe")
    state = run.store.states.setdefault(pattern.card.name, {}) if run.store is not None and lasting else {}
    if run.has_holes:
        return _row_by_row(run, attending, state)
    return _whole(run, attending, state) if in_order(attending.block.positions, attending.q_pos) else None


def in_order(positions: Tensor, q_pos: Tensor) -> bool:
    """Whether the last n slots of hole-free ``positions`` [B, (H,) L] are the queries at ``q_pos`` [B, n], and all others older."""
    q_pos = q_pos if positions.dim() == 2 else q_pos[:, None]
    old = positions.shape[-1] - q_pos.shape[-1]
    same = bool((positions[..., old:] == q_pos).all())
    return same and (old == 0 or bool((positions[..., :old].amax(dim=-1) < q_pos[..., 0]).all()))


def _whole(run: LayerRun, attending: Attending, state: State) -> Tensor | None:
    """The same for rows without holes."""
    pattern, block, n = run.pattern, attending.block, attending.q.shape[2]
    own_angles = isinstance(pattern, OwnKernel) and pattern.needs_raw_keys
    branches: Sequence[Branch | None] = [None] if own_angles else attending.branches or [None]
    turned = [turned_by(attending, branch) for branch in branches]
    plain = turned[0] if len(turned) == 1 else _at_true_positions(run, attending)
    glance = Glance(
        info=run.runtime.info,
        layer=run.layer,
        q=plain.q,
        k=plain.keys,
        v=block.values,
        raw_q=attending.query,
        raw_k=block.keys if run.raw else None,
        q_pos=attending.q_pos,
        k_pos=block.positions,
        logits=_logits(run, attending),
        turn=run.turner.turn if run.turner is not None else lambda x, at: x,
        state=state,
    )
    if isinstance(pattern, OwnKernel):
        out = pattern.attend(glance)
        return None if out is None else out.transpose(1, 2).contiguous()
    assert isinstance(pattern, BlockPattern)
    selection = pattern.select(glance)
    if selection is None:
        return None
    if attending.q.is_cuda:
        selection = replace(selection, fill=1)  # what is filled up is for the tiles of the CPU's kernel
    _narrow(attending, lambda start, stop: selection.dense(start, stop, n, block.length))
    cache = run.runtime.forward.cache
    if attending.q.is_cuda and len(turned) == 1 and n > 1:
        if cache is not None:
            cache.count_pairs(*pairs_read(selection, n, block.length))
        return attend_flex(attending, turned[0], selection)
    return attend_blocks(attending, turned, selection, None if cache is None else cache.count_pairs)


def turned_by(attending: Attending, branch: Branch | None) -> Turned:
    """Queries and keys at a branch's angles; None where they are rotated already."""
    if branch is None:
        return Turned(attending.q, attending.block.keys)
    return Turned(scaled(attending.turned_q(branch, 0, attending.q.shape[2]), branch), attending.turned_k(branch))


def _at_true_positions(run: LayerRun, attending: Attending) -> Turned:
    keys, positions = attending.block.keys, attending.block.positions
    if run.turner is None:
        return Turned(attending.query, keys)
    return Turned(run.turner.turn(attending.query, attending.q_pos), run.turner.turn(keys, positions))


def _logits(run: LayerRun, attending: Attending) -> Callable[[int, int], Tensor]:
    """Logits at the angles for choosing: those for attending, unless the scheme has others."""
    position, asked = run.position, attending.asked
    choosing = position.choosing(asked) if position is not None and asked is not None and run.turner is not None else None
    return attending.logits if choosing is None else replace(attending, branches=choosing, _keys=[]).logits


def _narrow(attending: Attending, seen: Callable[[int, int], Tensor]) -> None:
    """Let policies that look at weights see what was read, and nothing else."""
    allowed, layer = attending.allowed, attending.layer
    attending.allowed = lambda start, stop: by_query_head(allowed(start, stop), layer) & by_query_head(seen(start, stop), layer)


def _row_by_row(run: LayerRun, attending: Attending, state: State) -> Tensor | None:
    """A batch with holes. A row whose pattern chose nothing attends to all that it holds."""
    batch, pattern = attending.q.shape[0], run.pattern
    assert pattern is not None
    rows: list[Row] = []
    for b in range(batch):
        row = row_of(attending, b, {name: tensor[b : b + 1] for name, tensor in state.items()}, run.allowed_rows)
        if (
            row.attending is not None
            and (len(row.new) > 1 or pattern.decodes)
            and in_order(row.attending.block.positions, row.attending.q_pos)
        ):
            row.out = _whole(run, row.attending, row.state)
        rows.append(row)
    if all(row.out is None for row in rows):
        return None
    merge_states(state, [row.state for row in rows])
    if all(row.out is not None for row in rows):
        out = attending.q.new_zeros(batch, attending.q.shape[2], attending.q.shape[1], attending.block.values.shape[-1])
    else:
        out = attending.run()
    for b, row in enumerate(rows):
        if row.out is not None:
            out[b, row.new] = row.out[0]
    _narrow(attending, seen_by_rows(attending, rows))
    return out
