"""A selection of blocks: what it names before a block of queries, and the same for FlexAttention and for the gathering kernel."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from baywindow.window.base import LayerInfo
from baywindow.window.block import Block
from baywindow.window.blocks import BlockSelection
from baywindow.window.engine.attending import Attending
from baywindow.window.engine.block_rows import Turned, attend_blocks, pairs_read
from baywindow.window.engine.flex import TILE, attend_flex, block_mask

LAYER = LayerInfo(
    index=0, layer_type="full_attention", sliding_window=None, has_rope=True, q_heads=4, kv_heads=2, head_dim=8, value_dim=8,
    rotary_dim=8, scaling=0.5,
)  # fmt: skip


def drawn(seed: int, heads: int, n: int, length: int, q_tokens: int, k_tokens: int, batch: int = 1) -> BlockSelection:
    """Random blocks (named twice now and then, with holes) and columns."""
    draw = torch.Generator().manual_seed(seed)
    shape = (batch, heads, -(-n // q_tokens), 5)
    return BlockSelection(
        blocks=torch.randint(-1, -(-length // k_tokens), shape, generator=draw),
        q_tokens=q_tokens,
        k_tokens=k_tokens,
        columns=torch.randint(-1, length, (batch, heads, 3), generator=draw),
    )


def slow_mask(chosen: BlockSelection, n: int, length: int) -> torch.Tensor:
    """Every pair asked for by itself: [B, h, n, L]."""
    B, h = chosen.blocks.shape[:2]
    out = torch.zeros(B, h, n, length, dtype=torch.bool)
    for b in range(B):
        for head in range(h):
            for row in range(n):
                start = length - n + row // chosen.q_tokens * chosen.q_tokens
                for k in range(length - n + row + 1):
                    named = k // chosen.k_tokens in chosen.blocks[b, head, row // chosen.q_tokens].tolist()
                    column = chosen.columns is not None and k in chosen.columns[b, head].tolist()
                    out[b, head, row, k] = k >= start or named or column
    return out


def attending(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Attending:
    pos = torch.arange(k.shape[2]).expand(q.shape[0], -1)
    return Attending(
        layer=LAYER, q=q, block=Block(keys=k, values=v, positions=pos), allowed=lambda a, b: pos, branches=None, asked=None, turner=None,
        query=q, q_pos=pos[:, -q.shape[2] :],
    )  # fmt: skip


def test_worked_example() -> None:
    """Queries 4 and 5 of six tokens, key blocks of 3, block 1 (keys 3, 4, 5) and column 1: before rank 4 stand 1 and 3."""
    chosen = BlockSelection(blocks=torch.tensor([[[[1, -1]]]]), q_tokens=2, k_tokens=3, columns=torch.tensor([[[1, 5]]]))
    assert chosen.before(0, 4)[0, 0].tolist() == [False, True, False, True]
    # dense: the own block (ranks 4 and 5) is open to both, causality is the mask's affair
    assert chosen.dense(0, 2, 2, 6)[0, 0].long().tolist() == [[0, 1, 0, 1, 1, 1]] * 2
    # 2 queries read 2 keys before and 2 of their own; dense 4 before and 2
    assert pairs_read(chosen, 2, 6) == (8, 12)


@pytest.mark.parametrize(("n", "length", "q_tokens", "k_tokens"), [(20, 20, 8, 4), (9, 31, 4, 3), (7, 7, 16, 5)])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_gathering_kernel_against_a_loop_over_pairs(n: int, length: int, q_tokens: int, k_tokens: int, heads: int) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        q, k, v = torch.randn(2, 4, n, 8), torch.randn(2, 2, length, 8), torch.randn(2, 2, length, 8)
        chosen = drawn(seed, heads, n, length, q_tokens, k_tokens, batch=2)
        mask = slow_mask(chosen, n, length).repeat_interleave(4 // heads, dim=1)
        logits = (q @ k.repeat_interleave(2, 1).transpose(2, 3) * 0.5).masked_fill(~mask, -torch.inf)
        want = (torch.softmax(logits, -1) @ v.repeat_interleave(2, 1)).transpose(1, 2)
        torch.testing.assert_close(attend_blocks(attending(q, k, v), [Turned(q, k)], chosen), want, atol=1e-5, rtol=1e-5)


def test_a_mask_and_its_selection_say_the_same() -> None:
    mask = torch.rand(1, 2, 5, 7, generator=torch.Generator().manual_seed(3)) < 0.4
    chosen = BlockSelection.of_mask(mask, q_tokens=4, k_tokens=3)
    for i in range(5):
        got = chosen.before(i, 21).view(1, 2, 7, 3)
        assert torch.equal(got.all(dim=-1), mask[:, :, i])
        assert torch.equal(got.any(dim=-1), mask[:, :, i])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # on purpose: the meaning is tested, not the speed
@pytest.mark.parametrize(("n", "length"), [(2 * TILE, 2 * TILE), (100, 300)])
def test_flex_attention_sees_what_is_selected(n: int, length: int) -> None:
    """The tiles hold every pair that is seen, the mask function lets through exactly those, and the result is the gathering kernel's."""
    chosen = drawn(5, 2, n, length, 32, 16)
    flex = block_mask(chosen, n, length)
    want = chosen.dense(0, n, n, length) & (torch.arange(length) <= torch.arange(length - n, length)[:, None])
    assert torch.equal(create_mask(flex.mask_mod, 1, 2, n, length, device="cpu"), want)
    padded = torch.nn.functional.pad(want, (0, -length % TILE, 0, -n % TILE))
    tiles = padded.unflatten(3, (-1, TILE)).unflatten(2, (-1, TILE)).any(dim=(3, 5))
    assert torch.equal(flex.to_dense().bool(), tiles)
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, n, 8), torch.randn(1, 2, length, 8), torch.randn(1, 2, length, 8)
    run = attending(q, k, v)
    ours = attend_blocks(run, [Turned(q, k)], chosen)
    torch.testing.assert_close(attend_flex(run, Turned(q, k), chosen, compiled=False), ours, atol=1e-5, rtol=1e-5)


def test_what_is_left_of_a_tile_is_filled_with_the_nearest_keys() -> None:
    """Block 0 and column 5 are three of eight ranks: with tiles of four one more comes, the nearest that was left out, 7. A second head
    that names four gets none; one that names seven gets the eighth."""
    blocks = torch.tensor([[[[0]], [[0]], [[-1]]]])
    columns = torch.tensor([[[5, -1, -1, -1, -1, -1, -1], [4, 7, -1, -1, -1, -1, -1], [0, 1, 3, 4, 5, 6, 7]]])
    chosen = BlockSelection(blocks=blocks, q_tokens=4, k_tokens=2, columns=columns, fill=4)
    assert [row.nonzero().flatten().tolist() for row in chosen.before(0, 8)[0]] == [[0, 1, 5, 7], [0, 1, 4, 7], list(range(8))]
    assert chosen.before(0, 2)[0].all(dim=-1).tolist() == [True, True, True]  # fewer than a tile stand before: all of them


@torch.no_grad()
def test_the_kernel_counts_the_pairs_it_computes() -> None:
    q, k, v = (
        torch.randn(1, heads, length, 8, generator=torch.Generator().manual_seed(heads)) for heads, length in ((4, 20), (2, 36), (2, 36))
    )
    mask = torch.rand(1, 1, 3, 9, generator=torch.Generator().manual_seed(1)) < 0.4
    chosen = BlockSelection.of_mask(mask, q_tokens=8, k_tokens=4)
    heard: list[tuple[int, int]] = []
    attend_blocks(attending(q, k, v), [Turned(q, k)], chosen, lambda *pairs: heard.append(pairs))
    assert heard == [pairs_read(chosen, 20, 36)]
