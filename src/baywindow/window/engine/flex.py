"""The same selection for FlexAttention: on CUDA a block mask decides which tiles are loaded, and a mask function what is seen in them.

A tile may hold parts of several selected blocks and single columns, so every tile is a partial one and the mask function, which looks
the pair up in the selection, has the last word. Compiled once per process; the CPU gathers instead (see `block_rows`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from baywindow.window.blocks import BlockSelection
from baywindow.window.engine.attending import Attending
from baywindow.window.engine.block_rows import Turned

TILE = 128


def attend_flex(attending: Attending, turned: Turned, selection: BlockSelection, *, compiled: bool = True) -> Tensor:
    """The output [B, n, Hq, Dv]."""
    layer, values = attending.layer, attending.block.values
    heads = turned.q.shape[1]
    keys, values = (t.repeat_interleave(heads // t.shape[1], dim=1) for t in (turned.keys, values))
    mask = block_mask(selection.for_heads(heads), turned.q.shape[2], keys.shape[2])
    run = _compiled() if compiled else flex_attention
    cap = layer.softcap
    score = None if cap is None else _capped(cap)
    out: Tensor = run(turned.q, keys, values, score_mod=score, block_mask=mask, scale=layer.scaling)
    return out.transpose(1, 2).contiguous()


def block_mask(selection: BlockSelection, n: int, length: int) -> BlockMask:
    """For queries that are the last ``n`` of ``length`` ranks; heads as the selection has them."""
    offset, q_tokens, k_tokens = length - n, selection.q_tokens, selection.k_tokens
    blocks, columns = tables(selection, length)

    def seen(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        start = offset + q // q_tokens * q_tokens
        return (k <= q + offset) & ((k >= start) | blocks[b, h, q // q_tokens, k // k_tokens] | columns[b, h, k])

    tiles = tiles_of(selection, n, length)
    counts = tiles.sum(dim=-1).to(torch.int32)
    indices = torch.argsort(tiles.to(torch.uint8), dim=-1, descending=True, stable=True).to(
        torch.int32
    )  # full width, as compiled code wants
    return BlockMask.from_kv_blocks(
        counts, indices.contiguous(), BLOCK_SIZE=TILE, mask_mod=seen, seq_lengths=(n, length), compute_q_blocks=False
    )


def tables(selection: BlockSelection, length: int) -> tuple[Tensor, Tensor]:
    """Which blocks and which columns are selected: bool [B, h, nQ, nK] and [B, h, length]."""
    blocks = selection.blocks
    count = -(-length // selection.k_tokens)
    table = torch.zeros(*blocks.shape[:3], count + 1, dtype=torch.bool, device=blocks.device)
    table.scatter_(3, torch.where((blocks >= 0) & (blocks < count), blocks, count), True)
    columns = torch.zeros(*blocks.shape[:2], length + 1, dtype=torch.bool, device=blocks.device)
    if selection.columns is not None:
        at = selection.columns
        columns.scatter_(2, torch.where((at >= 0) & (at < length), at, length), True)
    return table[..., :count].contiguous(), columns[..., :length].contiguous()


def tiles_of(selection: BlockSelection, n: int, length: int) -> Tensor:
    """The tiles in which any pair is seen: bool [B, h, ⌈n / TILE⌉, ⌈length / TILE⌉]."""
    pad = -length % TILE
    rows = []
    for i, start in enumerate(range(0, n, selection.q_tokens)):
        before = length - n + start
        seen = torch.zeros(*selection.blocks.shape[:2], length + pad, dtype=torch.bool, device=selection.blocks.device)
        seen[..., :before] = selection.before(i, before)
        seen[..., before : before + min(selection.q_tokens, n - start)] = True
        rows.append(torch.unflatten(seen, 2, (-1, TILE)).any(dim=-1))
    by_block = torch.stack(rows, dim=2)
    out = torch.zeros(*by_block.shape[:2], -(-n // TILE), by_block.shape[3], dtype=torch.bool, device=by_block.device)
    for i in range(by_block.shape[2]):
        first, last = i * selection.q_tokens, min((i + 1) * selection.q_tokens, n) - 1
        out[:, :, first // TILE : last // TILE + 1] |= by_block[:, :, i : i + 1]
    return out


def _capped(cap: float) -> Callable[..., Tensor]:
    return lambda score, b, h, q, k: cap * torch.tanh(score / cap)


@functools.cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)
