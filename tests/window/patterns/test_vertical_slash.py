"""Vertical-slash: columns and diagonals from the last queries, and how much of the budget each head uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.patterns.vertical_slash import VerticalSlash, best, covered, diagonal_blocks, sums
from baywindow.window.positions.dual_chunk import DualChunk

IDS = torch.randint(1, 97, (1, 60), generator=torch.Generator().manual_seed(31))


def test_worked_example() -> None:
    """Two queries (ranks 2 and 3) over four keys.

    rank 2: .5 .2 .3  –      columns: .9 .2 .4 .5
    rank 3: .4  0 .1 .5      distances 0: .3 + .5, 1: .2 + .1, 2: .5 + 0, 3: .4
    """
    columns, diagonals = sums(torch.tensor([[[[0.5, 0.2, 0.3, 0.0], [0.4, 0.0, 0.1, 0.5]]]]))
    torch.testing.assert_close(columns[0, 0], torch.tensor([0.9, 0.2, 0.4, 0.5]))
    torch.testing.assert_close(diagonals[0, 0], torch.tensor([0.8, 0.3, 0.5, 0.4]))
    down = best(columns / 2, 1, 3)
    assert down.order[0, 0].tolist() == [0, 3, 2]
    torch.testing.assert_close(down.caught[0, 0], torch.tensor([0.45, 0.7, 0.9]))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("w", "length"), [(1, 9), (4, 17), (8, 8)])
def test_sums_against_a_loop(seed: int, w: int, length: int) -> None:
    torch.manual_seed(seed)
    weights = torch.rand(2, 3, w, length).tril_(length - w)
    columns, diagonals = sums(weights)
    want = torch.zeros(2, 3, length)
    for row in range(w):
        for key in range(length - w + row + 1):
            want[:, :, length - w + row - key] += weights[:, :, row, key]
    torch.testing.assert_close(diagonals, want)
    torch.testing.assert_close(columns, weights.sum(dim=2))


@pytest.mark.parametrize(("n", "length", "q_tokens", "k_tokens"), [(20, 20, 8, 4), (10, 30, 4, 3), (7, 19, 8, 16)])
def test_diagonals_touch_the_blocks_a_loop_finds(n: int, length: int, q_tokens: int, k_tokens: int) -> None:
    chosen = torch.rand(1, 2, length, generator=torch.Generator().manual_seed(5)) < 0.15
    got = diagonal_blocks(chosen, n, q_tokens, k_tokens)
    for head in range(2):
        for i in range(got.shape[2]):
            rows = range(length - n + i * q_tokens, min(length - n + (i + 1) * q_tokens, length))
            for j in range(got.shape[3]):
                keys = range(j * k_tokens, (j + 1) * k_tokens)
                touched = any(0 <= q - k < length and bool(chosen[0, head, q - k]) for q in rows for k in keys)
                assert bool(got[0, head, i, j]) == touched


def test_distances_that_overlap_are_read_once() -> None:
    """Distances 3 and 5 with a reach of 4: 3, 4, 5, 6 and 5, 6, 7, 8 are six keys."""
    assert covered(torch.tensor([[[3, 5]]]), 20, 4).tolist() == [[6]]


def planted(column: int, distance: int) -> tuple[Any, Any]:
    """256 keys of noise: one that every query wants, and one distance at which every query finds a key of its own."""
    torch.manual_seed(0)
    length, dim = 256, 64
    k = torch.nn.functional.normalize(torch.randn(1, 1, length, dim), dim=-1)
    q = 0.1 * torch.randn(1, 1, length, dim)
    q[0, 0, distance:] += 60 * k[0, 0, : length - distance]
    q[0, 0, column:] += 60 * k[0, 0, column]
    return q, k


def test_claim_a_column_and_a_diagonal_are_found_that_a_window_of_the_same_budget_loses(glance_at: Callable[..., Any]) -> None:
    q, k = planted(40, 120)
    part = VerticalSlash(budget_tokens=64, last_tokens=16, first_tokens=1, near_tokens=1, q_tokens=8, k_tokens=4)
    chosen = part.select(glance_at(q, k))
    assert chosen is not None
    for i in range(20, 32):
        seen = chosen.before(i, i * 8)[0, 0]
        assert bool(seen[40])
        assert bool(seen[i * 8 - 120 : i * 8 - 120 + 8].all())
        assert i * 8 - 64 > 40 or i < 14  # a window of 64 tokens does not reach the column
        assert int(seen.sum()) <= 64


def test_the_budget_is_used_only_as_far_as_recall_asks(glance_at: Callable[..., Any]) -> None:
    q, k = planted(40, 120)
    sizes = []
    for recall in (0.05, 1.0):
        part = VerticalSlash(budget_tokens=96, recall=recall, last_tokens=16, first_tokens=1, near_tokens=1, q_tokens=8, k_tokens=4)
        chosen = part.select(glance_at(q, k))
        assert chosen is not None
        sizes.append(int(chosen.before(31, 248).sum()))
    assert sizes[0] <= 24
    assert sizes[0] < sizes[1] <= 96


@torch.no_grad()
def test_a_budget_of_everything_is_the_stock_model(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    stock = model(IDS).logits
    for recipe in ("vertical_slash(budget_tokens=60)", "vertical_slash(budget_fraction=1.0)"):
        with attach(model, recipe) as w:
            cache = w.cache()
            torch.testing.assert_close(model(IDS, past_key_values=cache).logits, stock, atol=1e-4, rtol=1e-4)
            assert cache.pairs == (0, 0)
    with attach(model, "vertical_slash(budget_fraction=0.3, q_tokens=8, k_tokens=4, near_tokens=4, first_tokens=2)") as w:
        cache = w.cache()
        assert not torch.allclose(model(IDS, past_key_values=cache).logits, stock, atol=1e-3)
        assert 0 < cache.pairs[0] < 0.7 * cache.pairs[1]


@torch.no_grad()
def test_qwen_1m_runs_beyond_the_trained_window(tiny: Callable[..., Any]) -> None:
    """Where keys are looked for, distances go on growing; where they are attended to, they do not."""
    model, ids = tiny("llama"), torch.randint(1, 97, (1, 150), generator=torch.Generator().manual_seed(6))
    with attach(model, "dual_chunk + vertical_slash(budget_tokens=32, q_tokens=8, k_tokens=4, near_tokens=4, first_tokens=2)") as w:
        cache = w.prefill(ids, chunk_tokens=64)
        assert torch.isfinite(model(ids[:, -1:], past_key_values=cache).logits).all()
        assert cache.pairs[0] < 0.6 * cache.pairs[1]
    with attach(model, "qwen_1m") as w:
        assert [part.card.name for part in w.parts.all] == ["dual_chunk", "vertical_slash"]


def test_dual_chunk_looks_at_unclipped_distances(info_of: Any, layer_of: Any) -> None:
    from baywindow.window.positions.base import Asked

    pos = torch.arange(40)[None]
    layer = layer_of()
    x = torch.zeros(1, 2, 40, 8)
    asked = Asked(
        info=info_of(layer, trained=16), layer=layer, q_pos=pos, k_pos=pos, q=x, k=x[:, :1], inv_freq=torch.ones(4), attention_scaling=1.0,
        longest=40, state={},
    )  # fmt: skip
    own, before, far = (b.q_at[0] for b in DualChunk(local_tokens=4, chunk_tokens=12).choosing(asked))
    assert own[30].item() == 6  # 30 % 12
    assert before[30].item() == 18  # one chunk on, where attention stops at 15
    assert far[30].item() == 22  # and the local tokens beyond that


def test_cost_is_the_map_of_the_last_queries() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=1000)
    cost = VerticalSlash().cost(shape)
    assert cost.flops == 2 * 2 * 4 * 8 * 64 * 1000  # multiply-adds × 2, layers, heads, channels, queries, keys
    assert cost.bytes_read == cost.bytes_kept == 1000 * shape.token_bytes


@pytest.mark.parametrize(("name", "value"), [("recall", 0.0), ("recall", 1.5), ("last_tokens", 0), ("q_tokens", 0), ("k_tokens", 0)])
def test_what_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        VerticalSlash(**{name: value})  # type: ignore[arg-type]
