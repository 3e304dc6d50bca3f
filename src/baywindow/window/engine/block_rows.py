"""Attention over selected blocks: per block of queries, gather what it sees and run one small dense attention.

What stands before a block of queries needs no mask, and what stands in it needs a triangle that is the same for all blocks. So the two
are computed apart by PyTorch's fused kernel and merged by their log-sum-exp: no mask is ever made. Query heads that share a selection are
folded into rows of one head and share what was gathered. Several angles a key or capped logits go through one softmax instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from baywindow.window.blocks import BlockSelection
from baywindow.window.engine.attending import Attending, pair_positions
from baywindow.window.flash import flash, merge_into


@dataclass(frozen=True)
class Turned:
    """Queries [B, Hq, n, D] and keys [B, H or Hq, L, D] at one branch's angles, with the logit scale in the queries."""

    q: Tensor
    keys: Tensor


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``stop`` of the queries, for the flat heads (row · h + head) ``first`` to ``last``, and the ranks they read before
    their own block: int64 [heads, M]."""

    start: int
    stop: int
    first: int
    last: int
    ranks: Tensor


def attend_blocks(
    attending: Attending, turned: list[Turned], selection: BlockSelection, count: Callable[[int, int], None] | None = None
) -> Tensor:
    """The output [B, n, Hq, Dv]. ``turned``: one entry a branch of ``attending``; a row of the batch has no holes. ``count`` hears how many
    pairs were computed, as `pairs_read` has them."""
    values = attending.block.values
    B, Hq, n, _ = turned[0].q.shape
    more = selection.for_heads(max(selection.heads, values.shape[1], *(one.keys.shape[1] for one in turned)))
    found = pieces(more, B, n, values.shape[2])
    if count is not None:
        found = _counted(found, n, values.shape[2], more.heads // selection.heads, count)
    if len(turned) == 1 and attending.layer.softcap is None:
        return _fused(turned[0], values, more, found, attending.layer.scaling)
    turned = [Turned(one.q.contiguous(), one.keys) for one in turned]
    out = values.new_empty(B * more.heads, Hq // more.heads, n, values.shape[-1])
    for piece in found:
        out[piece.first : piece.last, :, piece.start : piece.stop] = _eager(attending, turned, piece, more.heads)
    return out.view(B, Hq, n, -1).transpose(1, 2).contiguous()


def _counted(found: Iterator[Piece], n: int, length: int, times: int, count: Callable[[int, int], None]) -> Iterator[Piece]:
    """The pieces as they come; in the end ``count`` hears of their pairs. ``times`` heads share what counts once."""
    read = dense = 0
    for piece in found:
        heads, rows = piece.last - piece.first, piece.stop - piece.start
        read += heads * (piece.ranks.shape[1] + rows) * rows
        dense += heads * (length - n + piece.stop) * rows
        yield piece
    count(read // times, dense // times)


def pieces(selection: BlockSelection, batch: int, n: int, length: int) -> Iterator[Piece]:
    """Block of queries by block of queries; heads that read equally many keys go together, all of them or one by one."""
    flat_heads = batch * selection.heads
    for i, start in enumerate(range(0, n, selection.q_tokens)):
        stop = min(n, start + selection.q_tokens)
        before = length - n + start
        chosen = selection.before(i, before).expand(batch, -1, -1).reshape(flat_heads, before)
        counts = chosen.sum(dim=1).tolist()
        ranks = chosen.nonzero()[:, 1]
        if min(counts) == max(counts):
            yield Piece(start, stop, 0, flat_heads, ranks.view(flat_heads, -1))
            continue
        for head, mine in enumerate(torch.tensor_split(ranks, torch.tensor(counts).cumsum(0)[:-1])):
            yield Piece(start, stop, head, head + 1, mine[None])


def pairs_read(selection: BlockSelection, n: int, length: int) -> tuple[int, int]:
    """Pairs of a query and a key that are computed, and those that dense attention by blocks of queries would compute; all rows and heads
    of the selection."""
    read = dense = 0
    for i, start in enumerate(range(0, n, selection.q_tokens)):
        rows, before = min(selection.q_tokens, n - start), length - n + start
        chosen = selection.before(i, before)
        read += (int(chosen.sum()) + chosen.shape[0] * chosen.shape[1] * rows) * rows
        dense += chosen.shape[0] * chosen.shape[1] * (before + rows) * rows
    return read, dense


def gather(x: Tensor, piece: Piece, h: int) -> Tensor:
    """Rows of ``x`` [B, X, L, D] by rank for the flat heads of the piece: [heads, M, D]. Each of the X heads serves h / X in a row."""
    share = h // x.shape[1]
    out = x.new_empty(*piece.ranks.shape, x.shape[-1])
    for group in range(piece.first // share, -(-piece.last // share)):
        a, b = max(group * share, piece.first) - piece.first, min((group + 1) * share, piece.last) - piece.first
        row, head = divmod(group, x.shape[1])
        torch.index_select(x[row, head], 0, piece.ranks[a:b].reshape(-1), out=out[a:b].view(-1, x.shape[-1]))
    return out


def _rows(q: Tensor, piece: Piece, h: int) -> Tensor:
    """The queries of a piece: [heads, group · rows, D]."""
    B, Hq, n, D = q.shape
    mine = q.reshape(B * h, Hq // h, n, D)[piece.first : piece.last, :, piece.start : piece.stop]
    return mine.reshape(piece.last - piece.first, -1, D)


def _fused(one: Turned, values: Tensor, selection: BlockSelection, found: Iterator[Piece], scaling: float) -> Tensor:
    """One angle a key: [B, n, Hq, Dv]. Blocks of queries lie apart in memory, and in each the rows of a head's group one behind another, so
    that nothing is copied on the way through the kernel."""
    B, Hq, n, _ = one.q.shape
    h, size = selection.heads, selection.q_tokens
    whole = n - n % size
    runs = [(a, b, rows) for a, b, rows in ((0, whole, size), (whole, n, n - whole)) if b > a]
    queries = [_by_block(one.q[:, :, a:b], rows, h) for a, b, rows in runs]
    new_keys, new_values = (t[:, :, t.shape[2] - n :] for t in (one.keys, values))
    own = [own_blocks(q, new_keys[:, :, a:b], new_values[:, :, a:b], rows, scaling) for q, (a, b, rows) in zip(queries, runs, strict=True)]
    for piece in found:
        if not piece.ranks.shape[1]:
            continue
        late = int(piece.start >= whole > 0)
        i, heads = (piece.start - whole * late) // size, slice(piece.first, piece.last)
        past, norm = flash(queries[late][None, i, heads], gather(one.keys, piece, h)[None], gather(values, piece, h)[None], scaling)
        merge_into(own[late][0][i, heads], own[late][1][i, heads], past[0], norm[0])
    outs = [out.view(-1, B, h, Hq // h, rows, values.shape[-1]) for (out, _), (_, _, rows) in zip(own, runs, strict=True)]
    return torch.cat([out.permute(1, 0, 4, 2, 3, 5).reshape(B, -1, Hq, values.shape[-1]) for out in outs], dim=1)


def _by_block(q: Tensor, rows: int, h: int | None) -> Tensor:
    """Queries [B, Hq, n, D] as [n / rows, B · h, group · rows, D]. None: every head by itself."""
    B, Hq, n, D = q.shape
    h = h or Hq
    return q.reshape(B, h, Hq // h, n // rows, rows, D).permute(3, 0, 1, 2, 4, 5).reshape(n // rows, B * h, -1, D)


def own_blocks(q: Tensor, keys: Tensor, values: Tensor, rows: int, scaling: float) -> tuple[Tensor, Tensor]:
    """Every query of ``q`` [blocks, B · h, group · rows, D] over its own block up to itself: output [blocks, B · h, group · rows, Dv] and
    log-sum-exp. ``keys`` and ``values`` [B, X, blocks · rows, D] are those of the blocks; each of the X heads serves h / X in a row."""
    keys, values = (_by_block(t.repeat_interleave(q.shape[1] // (t.shape[0] * t.shape[1]), dim=1), rows, None) for t in (keys, values))
    if q.shape[2] == rows:
        return flash(q, keys, values, scaling, causal=True)
    future = torch.full((rows, rows), -torch.inf, device=q.device).triu_(1)
    return flash(q, keys, values, scaling, bias=future.repeat(q.shape[2] // rows, 1))


def _eager(attending: Attending, turned: list[Turned], piece: Piece, h: int) -> Tensor:
    """Several angles a key, or capped logits: one softmax over what the branches give. [heads, group, rows, Dv]."""
    layer, rows = attending.layer, piece.stop - piece.start
    before = attending.block.values.shape[2] - attending.q.shape[2] + piece.start
    own = torch.arange(before, before + rows, device=piece.ranks.device).expand(len(piece.ranks), -1)
    piece = replace(piece, ranks=torch.cat([piece.ranks, own], dim=1))
    width = piece.ranks.shape[1]
    merged: Tensor | None = None
    for i, one in enumerate(turned):
        pairs = None if attending.branches is None or merged is None else _pairs(attending, i, piece, h)
        if pairs is not None and not bool(pairs.any()):
            continue
        logits = torch.bmm(_rows(one.q, piece, h), gather(one.keys, piece, h).transpose(1, 2)).float().mul_(layer.scaling)
        logits = logits.view(logits.shape[0], -1, rows, width)
        merged = logits if merged is None or pairs is None else torch.where(pairs, logits, merged)
    assert merged is not None
    if layer.softcap is not None:
        merged = torch.tanh(merged / layer.softcap) * layer.softcap
    hidden = torch.ones(rows, rows, dtype=torch.bool, device=merged.device).triu_(1)
    merged[..., width - rows :].masked_fill_(hidden, -torch.inf)
    values = gather(attending.block.values, piece, h)
    weights = torch.softmax(merged, dim=-1).to(values.dtype)
    return (weights.flatten(1, 2) @ values).view(*weights.shape[:3], -1)


def _pairs(attending: Attending, branch: int, piece: Piece, h: int) -> Tensor | None:
    """Which pairs of the piece a branch is for: bool [heads, 1, rows, M]."""
    asked = attending.asked
    assert asked is not None
    assert attending.branches is not None
    pairs = attending.branches[branch].pairs
    if pairs is None:
        return None
    heads = torch.arange(piece.first, piece.last, device=piece.ranks.device)
    row = heads // h
    k_pos = asked.k_pos
    held = k_pos[row] if k_pos.dim() == 2 else k_pos[row, (heads % h) // (h // k_pos.shape[1])]
    return pairs(*pair_positions(asked.q_pos[row, piece.start : piece.stop], held.gather(1, piece.ranks)))
