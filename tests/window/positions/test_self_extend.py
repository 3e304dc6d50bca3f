"""Self-Extend against the paper's formula, pair by pair."""

from __future__ import annotations

import math

import pytest
import torch

from baywindow.errors import ConfigError, ContextLengthError, RecipeError
from baywindow.recipe import parse
from baywindow.window.base import Shape
from baywindow.window.positions.self_extend import SelfExtend, grouped


def test_worked_example():
    # G = 2, W = 4, so the shift is 4 - 2 = 2. Query 7 stands at 7 // 2 + 2 = 5; keys 0 … 3 at 0, 0, 1, 1: distances 5, 5, 4, 4.
    # Key 4 is 3 away, inside the window: the distances 4, 4 | 3, 2, 1, 0 join without a jump.
    q, k = grouped(torch.tensor([7]), torch.arange(4), 2, 4)
    assert (q - k).tolist() == [5, 5, 4, 4]


@pytest.mark.parametrize(("n", "seed"), [(9, 0), (17, 1), (26, 2)])
def test_same_as_the_paper(ask, engine, slow, same, n, seed):
    asked = ask(n, trained=16, seed=seed, heads=4, kv=2)
    G, W = 3, 6

    def angle(h, i, j, f):
        distance = i - j if i - j < W else (i // G + W - W // G) - j // G
        return distance * asked.inv_freq[f].item()

    same(engine(SelfExtend(group_tokens=G, window_tokens=W), asked), slow(asked, angle), asked)


def test_log_scaling_multiplies_later_queries(ask, engine, slow, same):
    asked = ask(20, trained=8)
    G, W = 4, 4

    def angle(h, i, j, f):
        return (i - j if i - j < W else i // G + 3 - j // G) * asked.inv_freq[f].item()

    scheme = SelfExtend(group_tokens=G, window_tokens=W, log_scaled=True)
    same(engine(scheme, asked), slow(asked, angle, scale=lambda p: max(1.0, math.log(p + 1) / math.log(8))), asked)


def test_up_to_its_window_it_is_stock(ask, engine, slow, same):
    asked = ask(8, trained=32)
    scheme = SelfExtend(group_tokens=4)
    assert scheme.window(32) == 8
    assert len(scheme.branches(asked)) == 1
    same(engine(scheme, asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


def test_no_distance_leaves_the_trained_window():
    scheme, trained = SelfExtend(group_tokens=4, window_tokens=8), 32
    reach = scheme.reach(trained)
    assert reach == (32 - 8) * 4 + 8
    at = torch.arange(reach)
    q, k = grouped(at, at, 4, 8)
    assert (q[:, None] - k[None, :]).max().item() == trained - 1


def test_beyond_its_reach_it_refuses(ask):
    with pytest.raises(ContextLengthError, match="reaches 104 tokens") as caught:
        SelfExtend(group_tokens=4, window_tokens=8).branches(ask(1, 105, trained=32))
    needed = int(caught.value.hint.split("=")[1].split()[0])
    assert SelfExtend(group_tokens=needed).window_tokens is None
    assert (32 - 8) * needed + 8 >= 105


@pytest.mark.parametrize("options", [{"group_tokens": 0}, {"window_tokens": 0}, {"group_tokens": 8, "window_tokens": 12}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match="_tokens"):
        SelfExtend(**options)


def test_a_window_as_large_as_the_model_is_refused(ask):
    with pytest.raises(ConfigError, match="window_tokens"):
        SelfExtend(group_tokens=8, window_tokens=64).branches(ask(4, trained=64))


def test_unknown_option_names_the_nearest():
    with pytest.raises(RecipeError, match="group_size"):
        parse("self_extend(group_size=8)")


@pytest.mark.slow
def test_retrieves_beyond_the_window_where_stock_fails(testbed):
    stock, stock_loss = testbed.answers("stock", 1024)
    extended, loss = testbed.answers("self_extend(group_tokens=8)", 1024)
    assert extended == 1.0
    assert loss < 0.05
    assert stock <= 0.75
    assert stock_loss > 1.0


def test_cost_counts_two_rotations_and_one_more_attention():
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=5, generated_tokens=2)
    # Keys rotated: 5 at the prompt, then 6, then 7, on 2 heads, twice; three operations an element.
    rotated = (5 + 6 + 7) * 2 * 2 * 8 * 3 * 2
    attention = 2 * 4 * 5 * 5 * 8 * 2 * 2  # layers, heads, pairs, two products of 8 multiply-adds
    cost = SelfExtend().cost(shape)
    assert cost.flops == rotated + attention
    assert cost.bytes_kept == cost.bytes_read == 5 * 2 * 2 * 2 * 8 * 2
