"""Random: fair, repeatable, blind to padding."""

from __future__ import annotations

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window.base import Shape
from baywindow.window.caches.random import Random, drawn_at


def hashed(position: int, head: int, seed: int) -> float:
    """The same integer hash in Python's unbounded integers."""
    mask = 0xFFFFFFFF
    x = (position * 0x9E3779B1 + head * 0x85EBCA6B + (seed & mask) * 0xC2B2AE35) & mask
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> shift)) * factor) & mask
    return ((x ^ (x >> 16)) >> 8) / 2**24


@pytest.mark.parametrize("seed", [0, 7, 123456789])
@pytest.mark.parametrize("start", [0, 1_000_000, 2_000_000_000])
def test_the_draw_is_the_hash_at_any_position(seed: int, start: int) -> None:
    positions = torch.arange(start, start + 20).expand(1, 3, 20)
    got = drawn_at(positions, torch.arange(3)[None, :, None], seed)
    want = [[hashed(start + t, h, seed) for t in range(20)] for h in range(3)]
    assert got[0].tolist() == want


def test_every_place_and_head_is_drawn_fairly() -> None:
    """Keeping the best tenth of 2,000 tokens over 40 seeds: each fifth of the text and each head gets its share within 5 standard
    deviations of a binomial (σ of 400·40 draws at 0.1 is 38)."""
    kept = torch.zeros(4, 5)
    for seed in range(40):
        drawn = drawn_at(torch.arange(2000).expand(1, 4, 2000), torch.arange(4)[None, :, None], seed)[0]
        best = drawn.topk(200, dim=-1).indices
        for head in range(4):
            kept[head] += torch.bincount(best[head] // 400, minlength=5)
    assert (kept - 1600).abs().max() < 5 * 38
    assert kept.sum() == 4 * 40 * 200


def test_heads_and_seeds_differ() -> None:
    positions = torch.arange(200).expand(1, 2, 200)
    heads = torch.arange(2)[None, :, None]
    a, b = drawn_at(positions, heads, 1)[0], drawn_at(positions, heads, 2)[0]
    assert abs(float(torch.corrcoef(torch.stack([a[0], a[1]]))[0, 1])) < 0.25
    assert abs(float(torch.corrcoef(torch.stack([a[0], b[0]]))[0, 1])) < 0.25


def test_what_is_refused_and_what_it_costs() -> None:
    with pytest.raises(ConfigError, match="budget_tokens"):
        Random(budget_tokens=0)
    cost = Random(budget_fraction=0.25).cost(Shape(layers=1, q_heads=1, kv_heads=1, head_dim=4, prompt_tokens=80))
    assert (cost.flops, cost.bytes_kept) == (0, 20 * 2 * 4 * 2)
