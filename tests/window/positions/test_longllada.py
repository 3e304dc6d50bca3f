"""LongLLaDA's base from the critical dimension."""

from __future__ import annotations

import math

import pytest

from baywindow.errors import CapabilityError, ConfigError, ContextLengthError
from baywindow.window.base import Shape
from baywindow.window.positions.longllada import LongLLaDA, critical_dimension, enlarged_base


def test_worked_example():
    # LLaDA: b = 500,000, d = 128, L = 4,096. 64 · log_b(4096 / 2π) = 31.6, so d* = 64 and b' = (T / 2π)²; the paper's
    # enlargements, rounded up, are 4, 14, 31 and 55 for 8K, 16K, 24K and 32K.
    assert critical_dimension(500_000, 128, 4096) == 64
    for tokens, paper in ((8192, 4), (16384, 14), (24576, 31), (32768, 55)):
        assert math.ceil(enlarged_base(500_000, 128, 4096, tokens) / 500_000) == paper


@pytest.mark.parametrize(("n", "seed", "trained", "factor"), [(6, 0, 62, 2.0), (20, 1, 62, 4.0), (33, 2, 300, 8.0), (9, 3, 64, 2.0)])
def test_same_as_the_paper(ask, engine, slow, same, n, seed, trained, factor):
    asked = ask(n, trained=trained, seed=seed, heads=4, kv=2)
    turns = 0  # pairs that finish a turn in training, counted one by one
    while 2 * math.pi * 10_000 ** (turns / 4) < trained:
        turns += 1
    base = max(10_000, (factor * trained / (2 * math.pi)) ** (4 / turns))
    scheme = LongLLaDA(factor=factor)
    same(engine(scheme, asked), slow(asked, lambda h, i, j, f: (i - j) * base ** (-f / 4)), asked)


def test_the_critical_pair_turns_once_in_the_target_length():
    # Frequency b'^(-d*/d) makes a turn in exactly T tokens.
    d_star, base = critical_dimension(10_000, 32, 256), enlarged_base(10_000, 32, 256, 1024)
    assert d_star == 14
    assert 2 * math.pi * base ** (d_star / 32) == pytest.approx(1024)


def test_a_target_the_base_reaches_already_changes_nothing(ask, engine, slow, same):
    asked = ask(12, trained=64)
    assert enlarged_base(10_000, 8, 64, 64) == 10_000
    same(engine(LongLLaDA(factor=1.0), asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


def test_beyond_the_target_it_refuses(ask):
    with pytest.raises(ContextLengthError, match="longllada as set reaches 128 tokens"):
        LongLLaDA(factor=2.0).branches(ask(1, 129, trained=64))


def test_bad_options():
    with pytest.raises(ConfigError, match="factor"):
        LongLLaDA(factor=0.0)


def test_a_scaled_rope_is_refused(ask):
    asked = ask(4, trained=64)
    scaled = type(asked)(**{**vars(asked), "inv_freq": asked.inv_freq * asked.inv_freq.new_tensor([1.0, 0.9, 0.5, 0.5])})
    with pytest.raises(CapabilityError, match="scaled already"):
        LongLLaDA().branches(scaled)


def test_loss_at_the_target_length_is_below_plain_rope(testbed):
    _, stock = testbed.answers("stock", 1024)
    _, enlarged = testbed.answers("longllada(factor=4)", 1024)
    assert enlarged < 0.05
    assert stock > 1.0


def test_cost_is_that_of_the_cache():
    assert LongLLaDA().cost(Shape(layers=1, q_heads=2, kv_heads=1, head_dim=4, prompt_tokens=3)).flops == 0
