"""Giraffe's truncated basis, frequency by frequency."""

from __future__ import annotations

import math

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window.base import Shape
from baywindow.window.positions.giraffe import Giraffe, power_basis, truncated


def test_worked_example():
    # T = 100: the cutoff is 2π / 100. Periods of 50 and 100 tokens stay, 400 and 800 become 16 · 100 = 1,600, 801 is frozen.
    periods = torch.tensor([50.0, 100.0, 400.0, 800.0, 801.0], dtype=torch.float64)
    out = truncated(2 * math.pi / periods, 100, 8, 16)
    assert (2 * math.pi / out).tolist() == pytest.approx([50, 100, 1600, 1600, math.inf])


@pytest.mark.parametrize(("n", "seed", "trained"), [(6, 0, 8), (20, 1, 64), (33, 2, 700)])
def test_same_as_the_paper(ask, engine, slow, same, n, seed, trained):
    asked = ask(n, trained=trained, seed=seed, heads=4, kv=2)

    def angle(h, i, j, f):
        frequency = asked.inv_freq[f].item()
        cutoff = 2 * math.pi / trained
        if frequency < cutoff / 8:
            frequency = 0.0
        elif frequency < cutoff:
            frequency = 2 * math.pi / (16 * trained)
        return (i - j) * frequency

    same(engine(Giraffe(), asked), slow(asked, angle), asked)


def test_linear_scaling_comes_before_truncation(ask):
    asked = ask(4, trained=64)
    [branch] = Giraffe(factor=4.0).branches(asked)
    # Pair 1 turns once in 62.8 tokens: kept alone, but four times slower it is below the cutoff of 64.
    assert Giraffe().branches(asked)[0].inv_freq[1].item() == pytest.approx(0.1)
    assert branch.inv_freq[1].item() == pytest.approx(2 * math.pi / (16 * 64))


def test_power_basis_by_hand():
    # F = 4, power 2: shares 1, 9/16, 4/16, 1/16.
    assert power_basis(torch.ones(4), 2.0).tolist() == pytest.approx([1, 9 / 16, 4 / 16, 1 / 16])


def test_a_period_longer_than_all_pairs_is_stock(ask, engine, slow, same):
    asked = ask(12)
    same(engine(Giraffe(truncate_tokens=10**6), asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


@pytest.mark.parametrize("options", [{"truncate_tokens": 0}, {"zero_ratio": 0.5}, {"slow_ratio": 0.5}, {"power": -1.0}, {"factor": 0.5}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Giraffe(**options)


def test_frozen_pairs_stay_inside_what_training_showed():
    # The claim's mechanism: at 8 windows no pair reaches an angle beyond those of the trained window that it had not made a full turn of.
    window, own = 256, 10_000.0 ** -(torch.arange(16) / 16)
    made = truncated(own, window, 8, 16)
    incomplete = own * window < 2 * math.pi
    # 8 windows at a period of 16 windows is half a turn; plain RoPE goes eight times beyond what each pair had shown.
    assert (made * 8 * window)[incomplete].max().item() <= math.pi + 1e-4
    assert ((own * 8 * window) / (own * window))[incomplete].min().item() == pytest.approx(8.0)


def test_cost_is_that_of_the_cache():
    assert Giraffe().cost(Shape(layers=1, q_heads=2, kv_heads=1, head_dim=4, prompt_tokens=3)).flops == 0


def test_loss_beyond_the_window_is_below_plain_rope(testbed):
    _, stock = testbed.answers("stock", 1024)
    _, truncated_basis = testbed.answers("giraffe", 1024)
    assert truncated_basis < 0.05
    assert stock > 1.0
