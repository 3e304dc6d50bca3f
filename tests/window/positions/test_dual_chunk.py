"""Dual chunk attention against the matrix of the paper, pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window.base import Shape
from baywindow.window.positions.dual_chunk import DualChunk, logit_scale, query_positions


def distances(length: int, s: int, w: int) -> np.ndarray:
    """M[i, j] of the paper by loops: same chunk, the chunk before, earlier ones."""
    c = s + w
    out = np.zeros((length, length), dtype=int)
    for i in range(length):
        for j in range(i + 1):
            if i // s == j // s:
                out[i, j] = i % s - j % s
            elif i // s - j // s == 1:
                out[i, j] = min(i % s + s, c - 1) - j % s
            else:
                out[i, j] = c - 1 - j % s
    return out


def test_worked_example():
    # The paper's figure: s = 6, w = 4, c = 10. Queries of any chunk stand at 0 … 5 in it, at 6, 7, 8, 9, 9, 9 for the chunk before.
    own, before, far = query_positions(torch.arange(6, 12), 6, 4)
    assert own.tolist() == [0, 1, 2, 3, 4, 5]
    assert before.tolist() == [6, 7, 8, 9, 9, 9]
    assert far.tolist() == [9] * 6


@pytest.mark.parametrize(("n", "seed", "s", "w"), [(5, 0, 6, 4), (11, 1, 6, 4), (26, 2, 6, 4), (26, 3, 5, 5)])
def test_same_as_the_paper(ask, engine, slow, same, n, seed, s, w):
    asked = ask(n, trained=10, seed=seed, heads=4, kv=2)
    at = distances(n, s, w)
    scheme = DualChunk(chunk_tokens=s, local_tokens=w, logit_scaling=False)
    same(engine(scheme, asked), slow(asked, lambda h, i, j, f: at[i, j] * asked.inv_freq[f].item()), asked)


def test_logits_are_scaled_beyond_the_trained_window(ask, engine, slow, same):
    asked = ask(26, trained=10)
    at = distances(26, 6, 4)

    def scale(p):
        return (0.1 * math.log(max(1.0, (p + 1) / 10)) + 1) ** 2

    scheme = DualChunk(chunk_tokens=6, local_tokens=4)
    same(engine(scheme, asked), slow(asked, lambda h, i, j, f: at[i, j] * asked.inv_freq[f].item(), scale=scale), asked)


def test_scale_at_ten_times_the_window():
    # ln 10 = 2.302585, (1.2302585)² = 1.513536; inside the window it is exactly 1.
    assert logit_scale(torch.tensor([99, 9, 0]), 10).tolist() == pytest.approx([1.513536, 1.0, 1.0])


def test_within_one_chunk_it_is_stock(ask, engine, slow, same):
    asked = ask(31, trained=32)
    scheme = DualChunk()
    assert scheme.sizes(32) == (31, 1)
    assert len(scheme.branches(asked)) == 1
    same(engine(scheme, asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


def test_true_distances_within_the_local_window_across_a_border():
    at = distances(30, 6, 4)
    for i in range(30):
        for j in range(max(0, i - 3), i + 1):
            assert at[i, j] == i - j
    assert at.max() == 9  # c - 1: never beyond what was trained


@pytest.mark.parametrize("options", [{"local_tokens": 0}, {"chunk_tokens": 0}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match="_tokens"):
        DualChunk(**options)


@pytest.mark.parametrize("options", [{"local_tokens": 40}, {"chunk_tokens": 60, "local_tokens": 8}])
def test_sizes_that_do_not_fit_the_model_are_refused(ask, options):
    with pytest.raises(ConfigError, match="local_tokens"):
        DualChunk(**options).branches(ask(4, trained=64))


@pytest.mark.slow
def test_retrieves_beyond_the_window_where_stock_fails(testbed):
    stock, stock_loss = testbed.answers("stock", 1024)
    chunked, loss = testbed.answers("dual_chunk", 1024)
    assert chunked == 1.0
    assert loss < 0.05
    assert stock <= 0.75
    assert stock_loss > 1.0


def test_cost_counts_three_rotations_and_two_more_attentions():
    shape = Shape(layers=1, q_heads=2, kv_heads=1, head_dim=4, prompt_tokens=3)
    assert DualChunk().cost(shape).flops == 2 * (1 * 2 * 3 * 3 * 4 * 2 * 2) + 3 * (3 * 4 * 3)
