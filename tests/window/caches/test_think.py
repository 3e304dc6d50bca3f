"""ThinK: channels that queries and keys hardly use together are not held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import Recipe, parse
from baywindow.window import attach
from baywindow.window.base import ModelInfo, Shape
from baywindow.window.block import Flat, tensor_bytes
from baywindow.window.caches.base import Packing, PlainSegment
from baywindow.window.caches.think import ThinK, ThinSegment

IDS = torch.randint(1, 97, (2, 50), generator=torch.Generator().manual_seed(9))


def flat_of(keys: Any, counts: Any | None = None) -> Flat:
    counts = torch.tensor([[len(keys)]]) if counts is None else counts
    return Flat(keys=keys, values=torch.zeros(len(keys), 2), positions=torch.arange(len(keys), dtype=torch.int32), counts=counts)


def packing(layer: Any, queries: Any, q_pos: Any | None = None) -> Packing:
    at = torch.arange(queries.shape[2]).expand(queries.shape[0], -1) if q_pos is None else q_pos
    return Packing(info=ModelInfo(name="x", layers=(), trained_tokens=64, vocabulary=9), layer=layer, watched=lambda: (queries, at))


def narrowed(part: ThinK, flat: Flat, at: Packing) -> Any:
    return part.narrow(flat, at, lambda thin, _: PlainSegment(thin))


def test_worked_example(layer_of: Callable[..., Any]) -> None:
    """Mean squares of the queries by channel: 1, 0, 2, 2; of the keys: 1, 81, 0.5, 0. Products 1, 0, 1, 0: channels 0 and 2 stay, though
    channel 1 has by far the largest keys: no query looks at it."""
    queries = torch.tensor([[[[1.0, 0, 2, 0], [1, 0, 0, 2]]]])
    keys = torch.tensor([[1.0, 9, 1, 0], [1, 9, 0, 0]])
    made = narrowed(ThinK(pruned_fraction=0.5), flat_of(keys), packing(layer_of(dim=4), queries))
    assert made.tensors()["channels"].tolist() == [[[0, 2]]]
    assert made.tensors()["keys"].tolist() == [[1, 1], [1, 0]]
    assert made.flat().keys.tolist() == [[1, 0, 1, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_a_loop_written_from_the_paper(layer_of: Callable[..., Any], seed: int) -> None:
    """Two rows, two key/value heads with two query heads each, heads of unequal length, and a row with only three of the five queries."""
    draw = np.random.default_rng(seed)
    D, counts = 10, [[7, 4], [3, 6]]
    queries = draw.standard_normal((2, 4, 5, D)) * draw.uniform(0.1, 3, (1, 1, 1, D))
    q_pos = np.array([[3, 4, 5, 6, 7], [-1, -1, 4, 5, 6]])
    keys = draw.standard_normal((20, D)) * draw.uniform(0.1, 3, (1, D))
    layer = layer_of(q_heads=4, kv_heads=2, dim=D)
    at = packing(layer, torch.tensor(queries, dtype=torch.float32), torch.tensor(q_pos))
    made = narrowed(ThinK(pruned_fraction=0.4), flat_of(torch.tensor(keys, dtype=torch.float32), torch.tensor(counts)), at)
    start = 0
    for b in range(2):
        for h in range(2):
            own = keys[start : start + counts[b][h]]
            start += counts[b][h]
            judges = queries[b, 2 * h : 2 * h + 2][:, q_pos[b] >= 0].reshape(-1, D)
            score = [(judges[:, c] ** 2).mean() * (own[:, c] ** 2).mean() for c in range(D)]
            best = sorted(sorted(range(D), key=lambda c: -score[c])[:6])  # 10 − ⌊0.4 · 10⌋
            assert made.tensors()["channels"][b, h].tolist() == best


def test_a_logit_is_that_of_the_kept_channels(layer_of: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(1, 1, 4, 8, generator=generator), torch.randn(6, 8, generator=generator)
    made = narrowed(ThinK(pruned_fraction=0.5), flat_of(keys), packing(layer_of(dim=8), queries))
    kept = made.tensors()["channels"][0, 0].long()
    torch.testing.assert_close(queries[0, 0] @ made.flat().keys.T, queries[0, 0][:, kept] @ keys[:, kept].T)


def test_claim_the_product_loses_less_than_key_norms_or_chance(layer_of: Callable[..., Any]) -> None:
    """Queries and keys that are strong in different channels, as the paper found: of the same number of channels, the product's choice
    leaves the smallest error in the logits."""
    generator = torch.Generator().manual_seed(0)
    scale_q, scale_k = torch.rand(2, 32, generator=generator).mul(3).exp()
    queries, keys = torch.randn(1, 1, 32, 32, generator=generator) * scale_q, torch.randn(200, 32, generator=generator) * scale_k
    made = narrowed(ThinK(), flat_of(keys), packing(layer_of(dim=32), queries))
    exact = queries[0, 0] @ keys.T

    def error(channels: Any) -> float:
        return float((queries[0, 0][:, channels] @ keys[:, channels].T - exact).square().mean())

    kept = made.tensors()["channels"][0, 0].long()
    assert len(kept) == 20
    assert 2 * error(kept) < error(keys.square().mean(dim=0).topk(20).indices)
    assert 2 * error(kept) < min(error(torch.randperm(32, generator=generator)[:20]) for _ in range(20))


def test_rows_and_restoring(layer_of: Callable[..., Any]) -> None:
    counts = torch.tensor([[2, 3], [1, 2]])
    queries = torch.randn(2, 2, 4, 6, generator=torch.Generator().manual_seed(2))
    made = narrowed(
        ThinK(pruned_fraction=0.5), flat_of(torch.randn(8, 6), counts), packing(layer_of(q_heads=2, kv_heads=2, dim=6), queries)
    )
    whole = made.flat().keys
    assert torch.equal(made.rows(torch.tensor([1, 0])).flat().keys, whole[[5, 6, 7, 0, 1, 2, 3, 4]])
    assert torch.equal(ThinSegment.restore(made.tensors()).flat().keys, whole)


@torch.no_grad()
def test_the_engine_prunes_the_prompt_but_its_end_and_nothing_later(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "think(residual_tokens=10, window_tokens=4) + kivi(bits=4, group_tokens=8, residual_tokens=20)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        assert [(s.tensors()["inner_kind"].numel(), int(s.counts[0, 0])) for s in cache.store(0).segments] == [(11, 24), (12, 16)]
        for i in range(14):
            model(IDS[:, i : i + 1], past_key_values=cache)
        assert [type(s) for s in cache.store(0).segments] == [ThinSegment, ThinSegment]
    with attach(model, "think(residual_tokens=10, window_tokens=4)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        store = cache.store(0)
        assert [type(s) for s in store.segments] == [ThinSegment]
        assert int(store.segments[0].counts[0, 0]) == 40
        assert len(store.tail) == 10
        for i in range(40):
            model(IDS[:, i : i + 1], past_key_values=cache)
        assert len(store.segments) == 1
        assert len(store.tail) == 50


@torch.no_grad()
def test_queries_judge_at_the_angles_of_the_keys_they_judge(tiny: Callable[..., Any]) -> None:
    """What the engine hands over are the rotated queries of the prompt's end: those that the stock model's keys meet."""
    model, seen = tiny("llama"), []

    class Spy(ThinK):
        def scores(self, flat: Flat, at: Packing) -> Any:
            seen.append((at.layer.index, flat, *at.watched()))
            return super().scores(flat, at)

    Spy.card = ThinK.card
    with attach(model, Recipe((Spy(residual_tokens=10, window_tokens=4),))) as w:
        model(IDS[:1], past_key_values=w.cache())
    layer, flat, queries, q_pos = seen[0]
    assert layer == 0
    assert q_pos.tolist() == [[46, 47, 48, 49]]
    attention = model.model.layers[0].self_attn
    hidden = model.model.layers[0].input_layernorm(model.model.embed_tokens(IDS[:1]))
    cos, sin = model.model.rotary_emb(hidden, torch.arange(50)[None])
    q, k = (proj(hidden).view(1, 50, -1, 16).transpose(1, 2) for proj in (attention.q_proj, attention.k_proj))
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    torch.testing.assert_close(queries, q[:, :, -4:])
    torch.testing.assert_close(flat.keys, k[0, :, :40].flatten(0, 1))


@torch.no_grad()
@pytest.mark.parametrize("recipe", ["think(residual_tokens=10)", "think(residual_tokens=10, pruned_fraction=0.75)"])
def test_cost_states_the_bytes_that_are_held(tiny: Callable[..., Any], recipe: str) -> None:
    model, part = tiny("llama"), parse(recipe).inside[0]
    stated = part.cost(Shape(layers=3, q_heads=4, kv_heads=2, head_dim=16, prompt_tokens=50, element_bytes=4)).bytes_kept
    with attach(model, recipe) as w:
        cache = w.cache()
        model(IDS[:1], past_key_values=cache)
    held = [g.tensors()[name] for s in cache.stores for g in s.segments for name in ("keys", "values")]
    held += [t for s in cache.stores for t in (s.tail.keys, s.tail.values)]
    assert tensor_bytes(*held) == stated


@torch.no_grad()
def test_on_top_of_other_caches_it_takes_less_room(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    bytes_of = {}
    for recipe in ("snapkv(budget_tokens=40, window_tokens=4)", "kivi(bits=2, group_tokens=8, residual_tokens=10)"):
        for thin in (recipe, f"{recipe} + think(residual_tokens=10, window_tokens=4)"):
            with attach(model, thin) as w:
                cache = w.cache()
                model(IDS, past_key_values=cache)
                assert torch.isfinite(model(IDS[:, :1], past_key_values=cache).logits).all()
                bytes_of[thin] = cache.nbytes()
        assert bytes_of[thin] < bytes_of[recipe]


def test_what_is_refused() -> None:
    for options in ({"pruned_fraction": 1.0}, {"window_tokens": 0}, {"residual_tokens": -1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            ThinK(**options)  # type: ignore[arg-type]
    for other, why in (("kvquant", "un-rotated"), ("xkv", "un-rotated"), ("h2o(budget_tokens=64)", "at every step")):
        with pytest.raises(RecipeError, match=why):
            parse(f"think + {other}")
