"""Entropy-aware ABF: a larger base, and logits that grow with the logarithm of the position, from the third layer on."""

from __future__ import annotations

import math

import pytest
import torch

from baywindow.errors import CapabilityError, ConfigError
from baywindow.window.base import Shape
from baywindow.window.positions.entropy_abf import EntropyABF


def test_worked_example(ask):
    # Base 500,000 and F = 4: frequencies 1, 500000^(-1/4) = 0.0376060, its square 0.00141421, its cube 5.3183e-5.
    [branch] = EntropyABF().branches(ask(4))
    assert branch.inv_freq.tolist() == pytest.approx([1.0, 0.0376060, 0.00141421, 5.3183e-5], rel=1e-4)


@pytest.mark.parametrize(("n", "seed", "layer"), [(6, 0, 0), (20, 1, 1), (20, 2, 2), (33, 3, 5)])
def test_same_as_the_paper(ask, engine, slow, same, n, seed, layer):
    asked = ask(n, trained=8, seed=seed, layer=layer, heads=4, kv=2)

    def angle(h, i, j, f):
        return (i - j) * 500_000.0 ** (-f / 4)

    def scale(p):
        return max(1.0, math.log(p + 1) / math.log(8)) if layer >= 2 else 1.0

    same(engine(EntropyABF(), asked), slow(asked, angle, scale=scale), asked)


def test_inside_the_window_no_logit_grows(ask):
    [branch] = EntropyABF().branches(ask(8, trained=8, layer=3))
    assert branch.query_scale.unique().tolist() == [1.0]


def test_entropy_at_four_times_the_window_is_closer_to_that_within(ask, engine):
    def entropy(scheme, length):
        logits = engine(scheme, ask(length, trained=32, layer=2, heads=8, kv=8, seed=3))[:, -1] * 3
        weights = logits.softmax(-1)
        return -(weights * weights.log()).sum(-1).mean().item()

    within = entropy(EntropyABF(), 32)
    base_alone = entropy(EntropyABF(unscaled_layers=9), 128)
    assert abs(entropy(EntropyABF(), 128) - within) < abs(base_alone - within)


def test_a_model_with_a_larger_base_is_refused(ask):
    with pytest.raises(CapabilityError, match="1000000 already"):
        EntropyABF().branches(ask(4, base=1e6))


@pytest.mark.parametrize("options", [{"base": 1.0}, {"unscaled_layers": -1}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        EntropyABF(**options)


def test_cost_is_that_of_the_cache():
    assert EntropyABF().cost(Shape(layers=1, q_heads=2, kv_heads=1, head_dim=4, prompt_tokens=3)).flops == 0


def test_padding_does_not_disturb(ask):
    asked = ask(4, trained=2, layer=2)
    holes = type(asked)(**{**vars(asked), "q_pos": torch.tensor([[-1, -1, 0, 1]])})
    [branch] = EntropyABF().branches(holes)
    assert torch.isfinite(branch.query_scale).all()
