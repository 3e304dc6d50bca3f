"""LongRoPE: rescaling with exempt first tokens, and the evolutionary search."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from baywindow.errors import CapabilityError, ConfigError, ContextLengthError, SourceError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import Calibration, Shape
from baywindow.window.positions.longrope import STARTS, Gene, LongRoPE, crossed, mutated, on_grid, positions


def test_worked_example():
    # Factors 1 and 4, first two tokens exempt: position 1 stays at 1, 1; position 8 stands at 8 and 2.
    at = positions(torch.tensor([[1, 8]]), torch.tensor([1.0, 4.0]), 2)
    assert at[0, 0].tolist() == [[1.0, 1.0], [8.0, 2.0]]


@pytest.mark.parametrize(("n", "seed", "start"), [(6, 0, 0), (20, 1, 4), (33, 2, 16)])
def test_same_as_the_paper(ask, engine, slow, same, n, seed, start):
    asked = ask(n, trained=8, seed=seed, heads=4, kv=2)
    factors = (1.0, 1.5, 4.0, 8.0)

    def angle(h, i, j, f):
        at_i, at_j = (p if p < start else p / factors[f] for p in (i, j))
        return (at_i - at_j) * asked.inv_freq[f].item()

    scheme = LongRoPE(factors=factors, start_tokens=start)
    # s = 8 and L = 8: logits grow by 1 + ln 8 / ln 8 = 2.
    same(engine(scheme, asked), slow(asked, angle, temperature=math.sqrt(2)), asked)


def test_equal_to_a_stock_model_with_the_same_factors(tiny):
    plain = tiny("llama")
    factors = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 4.0]
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "long_factor": factors, "short_factor": factors, "factor": 2.0}
    config = type(plain.config).from_dict(
        plain.config.to_dict() | {"rope_parameters": rope | {"original_max_position_embeddings": 64}, "max_position_embeddings": 128}
    )
    config._attn_implementation = "sdpa"
    stock = LlamaForCausalLM(config).eval()
    stock.load_state_dict(plain.state_dict())
    ids = torch.randint(0, 97, (1, 100), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), attach(plain, Recipe((LongRoPE(factor=2.0, factors=tuple(factors)),))):
        got = plain(ids).logits
    torch.testing.assert_close(got, stock(ids).logits, atol=2e-4, rtol=1e-4)


def test_factor_one_is_stock(ask, engine, slow, same):
    asked = ask(12, trained=64)
    scheme = LongRoPE(factor=1.0, factors=(1.0,) * 4)
    same(engine(scheme, asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


@pytest.mark.parametrize("seed", range(5))
def test_mutations_and_crossovers_keep_the_rules(seed):
    rng = np.random.default_rng(seed)
    genes = [Gene(factors=on_grid(np.sort(rng.uniform(1, 8, 6))), start=0) for _ in range(2)]
    for _ in range(200):
        genes.append(mutated(rng, genes[int(rng.integers(len(genes)))], 0.3, 8.0))
        a, b = (genes[int(i)] for i in rng.integers(len(genes), size=2))
        if child := crossed(rng, a, b, 0.3):
            genes.append(child)
    for gene in genes:
        assert (np.diff(gene.factors) > -1e-9).all()
        assert gene.factors.min() > 1 - 1e-9
        assert gene.factors.max() < 1.25 * 8 + 1e-9
        np.testing.assert_allclose(gene.factors, np.rint(gene.factors * 100) / 100, atol=1e-9)
        assert gene.start in STARTS
    assert len({g.key for g in genes}) > 150


BEST = np.array([1.0, 1.0, 2.0, 6.0])


class FakeInfo:
    trained_tokens = 16


def searched(saved=None, stop_after=None, **options):
    """A model whose loss is the distance of the factors from BEST, and of n̂ from 4. Returns the arrays, and every factor vector scored."""
    saved = {} if saved is None else saved
    scored = []

    def score(part, ids, tail):
        assert ids.shape == (1, 128)
        if stop_after is not None and len(scored) >= stop_after:
            raise KeyboardInterrupt
        scored.append((*part.factors, part.start_tokens))
        return float(np.abs(np.array(part.factors) - BEST).sum()) + 0.01 * abs(part.start_tokens - 4)

    calibration = Calibration(
        info=FakeInfo(), ids=torch.zeros(1, 300, dtype=torch.long), forward=None, load_checkpoint=lambda: dict(saved),
        save_checkpoint=saved.update, sensitivity=None, score_with=score, inv_freq=10_000.0 ** -(torch.arange(4) / 4), pair_columns=None,
    )  # fmt: skip
    return LongRoPE(samples=1, **options).prepare(calibration), scored


def test_the_search_beats_linear_ntk_and_yarn_and_comes_near_the_best():
    arrays, scored = searched()
    losses = [np.abs(np.array(s[:-1]) - BEST).sum() for s in scored]
    found = np.abs(arrays["factors"] - BEST).sum()
    assert found < min(losses[:3])  # the seeds come first: linear, NTK, YaRN
    assert found < 0.5
    # 64 people and 40 rounds of 32 at most; nobody is scored twice.
    assert len(scored) == len(set(scored)) <= 64 + 40 * 32


def test_the_same_seed_finds_the_same_and_a_stopped_search_goes_on():
    options = {"population": 12, "parents": 6, "mutations": 4, "crossovers": 4, "rounds": 6}
    whole, scored = searched(**options)
    saved: dict[str, np.ndarray] = {}
    with pytest.raises(KeyboardInterrupt):
        searched(saved, stop_after=30, **options)
    assert 1 <= saved["round"][0] < 6
    resumed, again = searched(saved, **options)
    np.testing.assert_array_equal(resumed["factors"], whole["factors"])
    np.testing.assert_array_equal(resumed["start_tokens"], whole["start_tokens"])
    assert len(again) < len(scored)


def test_an_overflowing_candidate_never_wins():
    calibration_loss = iter([math.nan])
    saved: dict[str, np.ndarray] = {}

    def score(part, ids, tail):
        return next(calibration_loss, float(np.sum(part.factors)))

    calibration = Calibration(
        info=FakeInfo(), ids=torch.zeros(1, 128, dtype=torch.long), forward=None, load_checkpoint=dict, save_checkpoint=saved.update,
        sensitivity=None, score_with=score, inv_freq=10_000.0 ** -(torch.arange(4) / 4), pair_columns=None,
    )  # fmt: skip
    arrays = LongRoPE(samples=1, population=4, parents=2, mutations=1, crossovers=1, rounds=1).prepare(calibration)
    assert math.inf in saved["losses"]
    assert arrays["factors"].tolist() != [8.0] * 4  # linear came first and was the one that overflowed


def test_without_factors_it_says_how_to_prepare(ask):
    with pytest.raises(CapabilityError, match="no factors") as caught:
        LongRoPE().branches(ask(4))
    assert "bay prepare" in caught.value.hint


def test_factors_of_another_model_are_refused(ask):
    with pytest.raises(CapabilityError, match="3 factors for 4"):
        LongRoPE(factors=(1.0, 2.0, 3.0)).branches(ask(4))


def test_too_short_a_text_is_refused():
    with pytest.raises(SourceError, match="300 tokens"):
        searched(factor=32.0)


def test_beyond_the_target_it_refuses(ask):
    with pytest.raises(ContextLengthError, match="longrope as set reaches 64 tokens"):
        LongRoPE(factors=(1.0,) * 4).branches(ask(1, 65, trained=8))


@pytest.mark.parametrize(
    "options", [{"factor": 0.5}, {"population": 0}, {"parents": 65}, {"chance": 0.0}, {"factors": (0.0,)}, {"rounds": 0}]
)
def test_bad_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        LongRoPE(**options)


def test_cost_is_that_of_the_cache():
    assert LongRoPE().cost(Shape(layers=1, q_heads=2, kv_heads=1, head_dim=4, prompt_tokens=3)).flops == 0


@pytest.mark.slow
def test_searched_factors_have_a_loss_no_higher_than_linear_ntk_and_yarn(testbed, tmp_path, monkeypatch):
    from baywindow.window.engine.prepare import prepare

    monkeypatch.setenv("BAY_CACHE", str(tmp_path))
    scheme = LongRoPE(factor=4.0, population=8, parents=4, mutations=2, crossovers=2, rounds=4, samples=1)
    ids = testbed.questions(1024, 1, seed=6)[0]
    prepare(testbed.model, scheme, ids)

    def loss(recipe):
        with torch.no_grad(), attach(testbed.model, recipe):
            logits = testbed.model(ids[:, :-1], use_cache=False).logits[0]
        return torch.nn.functional.cross_entropy(logits, ids[0, 1:]).item()

    searched = loss(Recipe((scheme,)))
    # The seeds carry LongRoPE's own temperature and lie on its grid; YaRN as such has another temperature.
    assert searched <= min(loss("linear(factor=4)"), loss("ntk(factor=4)")) + 0.02
    assert searched < loss("stock")
    assert testbed.answers(Recipe((scheme,)), 1024)[0] == 1.0
