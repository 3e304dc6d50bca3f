"""The shared frequency helpers, and the five schemes that only change frequencies, against transformers' own models and by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from transformers import LlamaForCausalLM

from baywindow.errors import CapabilityError, ConfigError, ContextLengthError
from baywindow.recipe import Recipe, parse
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.positions._rope import base_of, frequencies, from_transformers, keep_all_cost, log_scale
from baywindow.window.positions.linear import Linear
from baywindow.window.positions.ntk import NTK
from baywindow.window.positions.yarn import YaRN

LIKE = torch.empty(0)


@pytest.mark.parametrize("base", [500.0, 10_000.0, 1_000_000.0])
def test_the_base_is_read_back_from_the_frequencies(base):
    assert base_of(frequencies(base, 16, LIKE)) == pytest.approx(base, rel=1e-4)


@pytest.mark.parametrize("count", [4, 32, 64])
@pytest.mark.parametrize("base", [500.0, 10_000.0, 500_000.0, 1_000_000.0])
def test_frequencies_rounded_to_bfloat16_still_show_their_base(base, count):
    assert base_of(frequencies(base, count, LIKE).bfloat16().float()) == pytest.approx(base, rel=0.01)


@pytest.mark.parametrize("recipe", ["ntk(factor=2)", "yarn(factor=2)", "longllada(factor=2)", "entropy_abf"])
def test_a_model_cast_to_bfloat16_can_be_extended(tiny, recipe):
    """`Module.to` casts buffers too, so the model's own frequencies are rounded; the new ones differ by no more than that."""
    model = copy.deepcopy(tiny("llama", "float32")).to(torch.bfloat16)
    assert not torch.equal(model.model.rotary_emb.inv_freq.float(), tiny("llama", "float32").model.rotary_emb.inv_freq)
    ids = torch.arange(1, 17)[None]
    with torch.no_grad(), attach(tiny("llama", "bfloat16"), recipe):
        exact = tiny("llama", "bfloat16")(ids).logits.float()
    with torch.no_grad(), attach(model, recipe):
        rounded = model(ids).logits.float()
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=-1).min() > 0.98


def test_a_scaled_rope_has_no_base():
    scaled, _ = from_transformers("yarn", frequencies(10_000.0, 16, LIKE), 256, factor=4.0)
    with pytest.raises(CapabilityError, match="scaled already"):
        base_of(scaled)


def test_log_scale_by_hand():
    # L = 8: position 63 gets ln 64 / ln 8 = 2, position 7 and all before get 1.
    assert log_scale(torch.tensor([[63, 7, 0, -1]]), 8).tolist()[0] == pytest.approx([2.0, 1.0, 1.0, 1.0])


def test_plain_cost_is_that_of_the_cache():
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=5)
    for scheme in (Linear(), NTK(), YaRN()):
        assert scheme.cost(shape) == keep_all_cost(shape)
        assert scheme.cost(shape).flops == 0
        assert scheme.cost(shape).bytes_kept == 5 * 2 * 2 * 2 * 8 * 2


def model_with(tiny, rope, window=64):
    """A stock model with the weights of the tiny one and a rope that transformers scales itself."""
    plain = tiny("llama")
    config = type(plain.config).from_dict(plain.config.to_dict() | {"max_position_embeddings": window, "rope_parameters": rope})
    config._attn_implementation = "sdpa"
    made = LlamaForCausalLM(config).eval()
    made.load_state_dict(plain.state_dict())
    return made


@pytest.mark.parametrize(
    ("recipe", "rope"),
    [
        ("linear(factor=2)", {"rope_type": "linear", "factor": 2.0}),
        ("yarn(factor=2)", {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}),
        # A static NTK base is a plain rope with a larger base: 10,000 · 2^(16 / 14) for a head of 16.
        ("ntk(factor=2)", {"rope_type": "default", "rope_theta": 10_000.0 * 2 ** (16 / 14)}),
    ],
)
def test_equal_to_a_stock_model_scaled_by_transformers(tiny, recipe, rope):
    ids = torch.randint(0, 97, (1, 128), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model_with(tiny, {"rope_theta": 10_000.0} | rope)(ids).logits
        with attach(tiny("llama"), recipe):
            got = tiny("llama")(ids).logits
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("scheme", [Linear(factor=1.0), NTK(factor=1.0), YaRN(factor=1.0)])
def test_factor_one_is_stock(ask, engine, slow, same, scheme):
    asked = ask(12, trained=64)
    same(engine(scheme, asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


def test_linear_divides_every_distance(ask, engine, slow, same):
    asked = ask(12, trained=4)
    same(engine(Linear(factor=3.0), asked), slow(asked, lambda h, i, j, f: (i - j) / 3 * asked.inv_freq[f].item()), asked)


def test_ntk_interpolates_the_slowest_pair_fully_and_the_fastest_not(ask):
    [branch] = NTK(factor=4.0).branches(ask(4, trained=64, dim=16))
    ratio = ask(4, dim=16).inv_freq / branch.inv_freq
    assert ratio[0].item() == pytest.approx(1.0)
    assert ratio[-1].item() == pytest.approx(4.0, rel=1e-4)
    assert (ratio.diff() > 0).all()


def test_yarn_by_turns_and_temperature(ask):
    # L = 256, b = 10,000, F = 16: pair i turns 256 / (2π · 10000^(i / 16)) times. Pair 1 turns 23 times (below β = 32) and pair 7
    # 0.7 times; transformers rounds the borders outwards to pairs 0 and 7, so pair i keeps a share 1 − i / 7 of its frequency.
    asked = ask(4, trained=256, dim=32)
    [branch] = YaRN(factor=4.0).branches(asked)
    keep = (1 - torch.arange(16) / 7).clamp(min=0)
    torch.testing.assert_close(branch.inv_freq, asked.inv_freq * (keep + (1 - keep) / 4))
    assert branch.attention_scaling == pytest.approx(0.1 * math.log(4) + 1)


@pytest.mark.parametrize("scheme", [Linear(), NTK(), YaRN()])
def test_beyond_its_factor_it_refuses(ask, scheme):
    scheme.branches(ask(1, 64, trained=16))
    with pytest.raises(ContextLengthError, match="reaches 64 tokens") as caught:
        scheme.branches(ask(1, 65, trained=16))
    assert "factor=5" in caught.value.hint


@pytest.mark.parametrize("kind", [Linear, NTK, YaRN])
@pytest.mark.parametrize("factor", [0.5, math.inf, math.nan])
def test_bad_factors(kind, factor):
    with pytest.raises(ConfigError, match="factor"):
        kind(factor=factor)


def test_bad_betas():
    with pytest.raises(ConfigError, match="beta_fast"):
        YaRN(beta_fast=1.0, beta_slow=1.0)


@pytest.mark.parametrize("name", ["linear", "ntk", "yarn"])
def test_perplexity_beyond_the_window_is_below_plain_rope(testbed, name):
    _, stock = testbed.answers("stock", 1024)
    _, scaled = testbed.answers(f"{name}(factor=4)", 1024)
    assert scaled < 0.05
    assert stock > 1.0


def test_a_recipe_prints_only_what_differs():
    assert str(Recipe((Linear(factor=8.0),))) == "linear(factor=8.0)"
    assert str(parse("yarn")) == "yarn"
