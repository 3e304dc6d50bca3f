"""DPRoPE: histograms of angles, their divergence, and the choice pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from baywindow.errors import ConfigError, ContextLengthError
from baywindow.window.base import Shape
from baywindow.window.positions.rotary_distribution import START_COUNT, DPRoPE, chosen_factors, disturbance, histogram


def test_worked_example():
    # Frequency 2π / 8 · 1.001 and 4 bins: positions 0 … 7 fall two by two into the four quarters of a turn.
    counts = histogram(2 * math.pi / 8 * 1.001, 8, 4) * 8 - START_COUNT
    assert counts.tolist() == pytest.approx([2, 2, 2, 2])


def slow_disturbance(frequency, trained, factor, squeeze, bins):
    """KL of the two histograms by loops, averaged over bins."""

    def counts(f, tokens):
        made = [float(np.finfo(np.float16).tiny)] * bins
        for m in range(tokens):
            made[min(bins - 1, int((m * f) % (2 * math.pi) / (2 * math.pi) * bins))] += 1
        return [c / tokens for c in made]

    p, q = counts(frequency, trained), counts(frequency / squeeze, round(trained * factor))
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / bins


@pytest.mark.parametrize(("trained", "factor", "bins"), [(16, 2.0, 12), (64, 4.0, 36), (100, 3.0, 360)])
def test_disturbance_by_loops(trained, factor, bins):
    own = tuple(10_000.0 ** (-i / 8) for i in range(8))
    for squeeze in (1.0, factor):
        expected = [slow_disturbance(f, trained, factor, squeeze, bins) for f in own]
        np.testing.assert_allclose(disturbance(own, trained, factor, squeeze, bins), expected, atol=1e-9)


def test_the_choice_disturbs_no_more_than_either_scheme():
    own = tuple(10_000.0 ** (-i / 16) for i in range(16))
    chosen = chosen_factors(own, 256, 4.0, 360)
    alone, squeezed = (disturbance(own, 256, 4.0, s, 360) for s in (1.0, 4.0))
    total = sum(a if c == 1.0 else b for c, a, b in zip(chosen, alone, squeezed, strict=True))
    assert total == pytest.approx(np.minimum(alone, squeezed).sum())
    assert total <= min(alone.sum(), squeezed.sum())
    # The slowest pair never left its first bins in training: squeezed, its histogram is the trained one.
    assert chosen[-1] == 4.0


def test_same_as_the_choice(ask, engine, slow, same):
    asked = ask(20, trained=16, heads=4, kv=2)
    own = asked.inv_freq.tolist()
    by = [1.0 if slow_disturbance(f, 16, 4.0, 1.0, 36) <= slow_disturbance(f, 16, 4.0, 4.0, 36) else 4.0 for f in own]
    assert len(set(by)) == 2
    same(engine(DPRoPE(bins=36), asked), slow(asked, lambda h, i, j, f: (i - j) * own[f] / by[f]), asked)


def test_factor_one_is_stock(ask, engine, slow, same):
    asked = ask(12, trained=64)
    same(engine(DPRoPE(factor=1.0), asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


def test_beyond_the_target_it_refuses(ask):
    with pytest.raises(ContextLengthError, match="rotary_distribution as set reaches 64 tokens"):
        DPRoPE().branches(ask(1, 65, trained=16))


@pytest.mark.parametrize("options", [{"factor": 0.5}, {"bins": 1}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        DPRoPE(**options)


def test_cost_is_that_of_the_cache():
    assert DPRoPE().cost(Shape(layers=1, q_heads=2, kv_heads=1, head_dim=4, prompt_tokens=3)).flops == 0


def test_loss_beyond_the_window_is_below_plain_rope(testbed):
    _, stock = testbed.answers("stock", 1024)
    _, chosen = testbed.answers("rotary_distribution(factor=4)", 1024)
    assert chosen < 0.05
    assert stock > 1.0
