"""PyramidKV: budgets fall by equal steps, the total stays, the choice is SnapKV's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.pyramidkv import PyramidKV, pyramid
from baywindow.window.caches.snapkv import SnapKV

IDS = torch.randint(1, 97, (1, 60), generator=torch.Generator().manual_seed(6))


def test_worked_example() -> None:
    """Mean 20 over 5 layers, beta 20: the last layer gets 20/20 = 1, the first 2·20 − 1 = 39, steps of (39 − 1)/4 = 9.5:
    39, 29.5, 20, 10.5, 1. Running sums 39, 68.5, 88.5, 99, 100 round (halves to even) to 39, 68, 88, 99, 100."""
    assert pyramid(20, 1000, 5, 20.0) == [39, 29, 20, 11, 1]


def test_worked_example_capped_by_the_prompt() -> None:
    """30 tokens before the window, mean 20, 3 layers: the first gets 30 instead of 39, the last 2·20 − 30 = 10."""
    assert pyramid(20, 30, 3, 20.0) == [30, 20, 10]


@pytest.mark.parametrize("layers", [2, 3, 18, 32])
@pytest.mark.parametrize("mean", [1, 7, 64, 500])
@pytest.mark.parametrize("beta", [1.0, 14.0, 20.0])
def test_against_the_arithmetic_series_of_the_paper(layers: int, mean: int, beta: float) -> None:
    longest = 2000
    got = pyramid(mean, longest, layers, beta)
    first, last = 2 * mean - mean / beta, mean / beta
    for i, budget in enumerate(got):
        exact = first + (last - first) * i / (layers - 1)
        assert abs(budget - exact) <= 1.0
    assert sum(got) == mean * layers
    assert all(a >= b - 1 for a, b in pairwise(got))


def test_sliding_layers_are_not_steps_of_the_pyramid(make_moment: Callable[..., Any]) -> None:
    """Layers 0, 2 and 4 of five are full: they get the budgets of a pyramid of three."""
    weights = torch.rand(1, 1, 4, 200)
    budgets = []
    for at in (0, 2, 4):
        made, _ = make_moment(weights=weights, layers=5, at_layer=at, sliding=(1, 3))
        budgets.append(int(PyramidKV(budget_tokens=24, window_tokens=4).budget(made)))
    assert budgets == [b + 4 for b in pyramid(20, 196, 3, 20.0)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_layer_keeps_what_snapkv_would_keep_at_that_layers_budget(seed: int, make_moment: Callable[..., Any]) -> None:
    weights = torch.rand(1, 4, 4, 50, generator=torch.Generator().manual_seed(seed))
    for at, budget in enumerate(pyramid(12, 46, 3, 20.0)):
        made, block = make_moment(weights=weights, kv_heads=2, layers=3, at_layer=at)
        got = PyramidKV(budget_tokens=16, window_tokens=4).reduce(made, block, None).head_positions
        flat = SnapKV(budget_tokens=budget + 4, window_tokens=4).reduce(made, block, None).head_positions
        assert got.tolist() == flat.tolist()


@torch.no_grad()
def test_a_model_holds_the_pyramid_and_the_total(tiny: Callable[..., Any]) -> None:
    with attach(tiny("llama"), "pyramidkv(budget_tokens=20, window_tokens=4)") as w:
        cache = w.cache()
        tiny("llama")(IDS, past_key_values=cache)
    held = [int(h[0, 0]) for h in cache.held()]
    assert held == [4 + b for b in pyramid(16, 56, 3, 20.0)] == [35, 20, 5]
    assert sum(held) == 3 * 20


@torch.no_grad()
def test_full_budget_and_smallest_budget(next_logits: Callable[..., Any]) -> None:
    assert torch.equal(next_logits(IDS, "pyramidkv(budget_tokens=60)"), next_logits(IDS, "stock"))
    assert torch.isfinite(next_logits(IDS, "pyramidkv(budget_tokens=2, window_tokens=1)")).all()


def test_claim_low_layers_hold_a_spread_that_an_equal_budget_loses(make_moment: Callable[..., Any]) -> None:
    """In the lowest layer attention is spread over many tokens: at the same mean, the pyramid covers more of its mass."""
    weights = torch.rand(1, 1, 4, 100, generator=torch.Generator().manual_seed(0))
    made, block = make_moment(weights=weights, layers=4, at_layer=0)

    def mass(cache: Any) -> float:
        kept = cache.reduce(made, block, None).positions[0]
        return float(weights[0, 0].mean(dim=0)[kept].sum())

    assert mass(PyramidKV(budget_tokens=24, window_tokens=4)) > 1.3 * mass(SnapKV(budget_tokens=24, window_tokens=4))


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="beta"):
        PyramidKV(beta=0.5)
    with pytest.raises(ConfigError, match="budget_tokens"):
        PyramidKV(budget_tokens=8)
    with pytest.raises(ConfigError, match="kernel_tokens"):
        PyramidKV(kernel_tokens=2)


def test_cost_is_that_of_its_votes() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, element_bytes=4)
    assert PyramidKV(budget_tokens=40).cost(shape) == SnapKV(budget_tokens=40, window_tokens=8).cost(shape)
