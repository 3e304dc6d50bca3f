"""Attention over selected blocks: per block of queries, gather what it sees and run one small dense attention.

What stands before a block of queries needs no mask, and what stands in it needs a triangle that is the same for all blocks. So the two
are computed apart by PyTorch's fused kernel and merged by their log-sum-exp: no mask is ever made. Query heads that share a selection are
folded into rows of one head and share what was gathered. Several angles a key or capped logits go through one softmax instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from baywindow.window.blocks import BlockSelection
from baywindow.window.engine.attending import Attending, pair_positions
from baywindow.window.flash import flash, merge


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


def attend_blocks(attending: Attending, turned: list[Turned], selection: BlockSelection) -> Tensor:
    """The output [B, n, Hq, Dv]. ``turned``: one entry a branch of ``attending``; a row of the batch has no holes."""
    values = attending.block.values
    B, Hq, n, _ = turned[0].q.shape
    selection = selection.for_heads(max(selection.heads, values.shape[1], *(one.keys.shape[1] for one in turned)))
    turned = [Turned(one.q.contiguous(), one.keys) for one in turned]
    if len(turned) == 1 and attending.layer.softcap is None:
        out = _fused(turned[0], values, selection, attending.layer.scaling)
    else:
        out = values.new_empty(B * selection.heads, Hq // selection.heads, n, values.shape[-1])
        for piece in pieces(selection, B, n, values.shape[2]):
            out[piece.first : piece.last, :, piece.start : piece.stop] = _eager(attending, turned, piece, selection.heads)
    return out.view(B, Hq, n, -1).transpose(1, 2).contiguous()


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


def _fused(one: Turned, values: Tensor, selection: BlockSelection, scaling: float) -> Tensor:
    """One angle a key. [B · h, group, n, Dv]."""
    B, Hq, n, _ = one.q.shape
    h = selection.heads
    out, norm = own_blocks(one, values, selection.q_tokens, scaling)
    out, norm = out.view(B * h, Hq // h, n, -1), norm.view(B * h, Hq // h, n)
    for piece in pieces(selection, B, n, values.shape[2]):
        if not piece.ranks.shape[1]:
            continue
        where = (slice(piece.first, piece.last), slice(None), slice(piece.start, piece.stop))
        q = _rows(one.q, piece, h)
        past, past_norm = flash(q[None], gather(one.keys, piece, h)[None], gather(values, piece, h)[None], scaling)
        mine, mine_norm = out[where], norm[where]
        out[where], _ = merge(mine, mine_norm, past.view(mine.shape), past_norm.view(mine_norm.shape))
    return out


def own_blocks(one: Turned, values: Tensor, q_tokens: int, scaling: float) -> tuple[Tensor, Tensor]:
    """Every query over its own block up to itself: output [B, Hq, n, Dv] and log-sum-exp [B, Hq, n]."""
    B, Hq, n, _ = one.q.shape
    keys = one.keys[:, :, one.keys.shape[2] - n :].repeat_interleave(Hq // one.keys.shape[1], dim=1)
    values = values[:, :, values.shape[2] - n :].repeat_interleave(Hq // values.shape[1], dim=1)
    whole = n - n % q_tokens
    found = []
    for start, stop, rows in ((0, whole, q_tokens), (whole, n, n - whole)):
        if stop > start:
            q, k, v = (t[:, :, start:stop].reshape(B * Hq, (stop - start) // rows, rows, -1) for t in (one.q, keys, values))
            out, norm = flash(q, k, v, scaling, causal=True)
            found.append((out.reshape(B, Hq, stop - start, -1), norm.reshape(B, Hq, -1)))
    return torch.cat([out for out, _ in found], dim=2), torch.cat([norm for _, norm in found], dim=2)


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
