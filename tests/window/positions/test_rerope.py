"""ReRoPE and its leaky form against the definition, pair by pair."""

from __future__ import annotations

import math

import pytest
import torch

from baywindow.errors import ConfigError, ContextLengthError
from baywindow.window.base import Shape
from baywindow.window.positions.rerope import ReRoPE, rectified


def test_worked_example():
    # w = 4: key 0 seen from query 10 is 10 away, so it stands at 4; the leaky form with k = 2 lets it drift to 4 + 6 / 2 = 7.
    q, k = rectified(torch.tensor([10]), torch.tensor([0]), 4, None)
    assert (q - k).item() == 4
    q, k = rectified(torch.tensor([10]), torch.tensor([0]), 4, 2.0)
    assert (q - k).item() == pytest.approx(7.0)


@pytest.mark.parametrize(("n", "seed", "leak"), [(9, 0, None), (20, 1, None), (20, 2, 3.0), (26, 3, 5.0)])
def test_same_as_the_definition(ask, engine, slow, same, n, seed, leak):
    asked, w = ask(n, trained=12, seed=seed, heads=4, kv=2), 5

    def angle(h, i, j, f):
        d = i - j
        far = w if leak is None else w + (d - w) / leak
        return (d if d < w else far) * asked.inv_freq[f].item()

    scheme = ReRoPE(window_tokens=w, leak=leak, log_scaled=False)
    same(engine(scheme, asked), slow(asked, angle), asked)


def test_logits_grow_with_the_logarithm_beyond_the_trained_window_only(ask, engine, slow, same):
    asked, w = ask(20, trained=8), 4

    def angle(h, i, j, f):
        return min(i - j, w) * asked.inv_freq[f].item()

    # Query 3 is inside the trained window and keeps its logits; query 15 gets ln 16 / ln 8 = 4 / 3.
    assert math.log(16) / math.log(8) == pytest.approx(4 / 3)
    same(engine(ReRoPE(window_tokens=w), asked), slow(asked, angle, scale=lambda p: max(1.0, math.log(p + 1) / math.log(8))), asked)


def test_up_to_its_window_it_is_stock(ask, engine, slow, same):
    asked = ask(8, trained=64)
    scheme = ReRoPE()
    assert scheme.window(64) == 8
    assert len(scheme.branches(asked)) == 1
    same(engine(scheme, asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


def test_nothing_unseen_at_any_length(ask):
    far = ReRoPE(window_tokens=4).branches(ask(1, 5000, trained=12))[1]
    assert (far.q_at[0, -1] - far.k_at).unique().tolist() == [4]


def test_the_leaky_form_refuses_beyond_its_reach(ask):
    scheme = ReRoPE(window_tokens=4, leak=2.0)
    scheme.branches(ask(1, (12 - 4) * 2 + 4, trained=12))
    with pytest.raises(ContextLengthError, match="reaches 20 tokens"):
        scheme.branches(ask(1, 21, trained=12))


@pytest.mark.parametrize("options", [{"window_tokens": 0}, {"leak": 1.0}, {"leak": math.inf}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        ReRoPE(**options)


def test_a_window_as_large_as_the_model_is_refused(ask):
    with pytest.raises(ConfigError, match="window_tokens"):
        ReRoPE(window_tokens=64).branches(ask(4, trained=64))


@pytest.mark.slow
def test_loss_beyond_the_window_stays_below_plain_rope(testbed):
    _, within = testbed.answers("stock", 256)
    _, stock = testbed.answers("stock", 1024)
    _, clipped = testbed.answers("rerope", 1024)
    assert clipped < 10 * within + 0.01
    assert stock > 1.0


def test_cost_rotates_far_keys_only_in_the_leaky_form():
    shape = Shape(layers=1, q_heads=2, kv_heads=1, head_dim=4, prompt_tokens=3)
    attention = 1 * 2 * 3 * 3 * 4 * 2 * 2
    assert ReRoPE().cost(shape).flops == attention + 3 * 4 * 3
    assert ReRoPE(leak=2.0).cost(shape).flops == attention + 2 * 3 * 4 * 3
