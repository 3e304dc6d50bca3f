"""WindowKV: whole windows, two ways to score them, one choice for a group of layers, budgets that fall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.ada_kv import AdaKV
from baywindow.window.caches.windowkv import WindowKV, falling, group_sizes, spans
from baywindow.window.engine.parts import Parts

IDS = torch.randint(1, 97, (1, 60), generator=torch.Generator().manual_seed(16))


def test_worked_example_of_both_strategies(make_moment: Callable[..., Any]) -> None:
    """Nine tokens, the last votes; windows of four over the other eight, two query heads. Window 0: votes 0.4, 0, 0, 0 and 0.4, 0, 0, 0;
    window 1: 0.1 each. Best halves: 0.2 against 0.1, so ``max`` keeps window 0. Averages: 0.1 against 0.1 …"""
    head = [0.4, 0, 0, 0, 0.12, 0.12, 0.12, 0.12, 0.12]
    weights = torch.tensor([[[head], [head]]])
    for strategy, kept in (("max", [0, 1, 2, 3, 8]), ("average", [4, 5, 6, 7, 8])):  # … or 0.12 against 0.1: ``average`` keeps window 1
        moment, block = make_moment(weights=weights)
        cache = WindowKV(budget_tokens=5, window_tokens=1, span_tokens=4, strategy=strategy)
        assert cache.reduce(moment, block, None).positions.tolist() == [kept]


def test_the_budget_is_met_by_a_part_of_a_window(make_moment: Callable[..., Any]) -> None:
    """Budget 4 of nine tokens: the voter, and the first three of the better window."""
    weights = torch.tensor([[[[0.0, 0.1, 0.0, 0.0, 0.2, 0.2, 0.2, 0.2, 0.1]]]])
    moment, block = make_moment(weights=weights)
    assert WindowKV(budget_tokens=4, window_tokens=1, span_tokens=4).reduce(moment, block, None).positions.tolist() == [[4, 5, 6, 8]]


@pytest.mark.parametrize("strategy", ["max", "average"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("length", "span"), [(17, 4), (16, 8), (5, 8), (30, 1)])
def test_window_scores_against_loops(strategy: Any, seed: int, length: int, span: int) -> None:
    """Oracle: the reference's way, window by window in Python, for a row with holes in front and unscored tokens behind."""
    draw = torch.Generator().manual_seed(seed)
    votes = torch.rand(2, 3, length + 6, generator=draw)
    scored = torch.zeros(2, length + 6, dtype=torch.bool)
    scored[0, :length] = True
    scored[1, 2 : 2 + length - 1] = True
    got = spans(votes, scored, span, strategy)
    for b in range(2):
        at = [i for i in range(length + 6) if scored[b, i]]
        for start in range(0, len(at), span):
            window = at[start : start + span]
            values = []
            for h in range(3):
                mine = sorted((float(votes[b, h, i]) for i in window), reverse=True)
                values += mine if strategy == "average" else mine[: max(1, span // 2)]
            for i in window:
                assert float(got[b, i]) == pytest.approx(sum(values) / len(values), rel=1e-5)
        assert not got[b, ~scored[b]].any()


def test_budgets_fall_as_the_reference_has_them() -> None:
    """32 layers in four groups, mean 1,024: last 1,024 · 8/14 = 585.14, first 2,048 − 585.14 = 1,462.86, steps of 292.57."""
    assert falling(1024, 10**6, [8] * 4, 14 / 8) == [1462, 1170, 877, 585]


def test_a_smaller_last_group_and_a_short_prompt_keep_the_total() -> None:
    """24 and 18 layers; the mean over the layers is what was asked for, up to rounding down; nobody gets more than there is."""
    for layers, mean, longest in ((24, 500, 10**6), (18, 500, 10**6), (18, 100, 120), (9, 64, 66)):
        sizes = group_sizes(layers, 8)
        budgets = falling(mean, longest, sizes, 14 / 8)
        total = sum(b * n for b, n in zip(budgets, sizes, strict=True))
        assert mean * layers - layers <= total <= mean * layers
        assert budgets == sorted(budgets, reverse=True)
        assert 0 <= budgets[-1] <= budgets[0] <= longest
    assert group_sizes(18, 8) == [8, 8, 2]
    assert falling(70, 66, [8, 8], 1.75) == [70, 70]  # nothing need go


def test_only_the_first_layer_of_a_group_looks(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three layers in groups of two: layers 0 and 2 look; 0 and 1 hold the same tokens, in all heads."""
    looked: list[int] = []
    plain = WindowKV._look
    monkeypatch.setattr(WindowKV, "_look", lambda self, moment, block: looked.append(moment.layer.index) or plain(self, moment, block))
    model = tiny("llama")
    with torch.no_grad(), attach(model, "windowkv(budget_tokens=20, window_tokens=4, span_tokens=4, group_layers=2)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
    assert looked == [0, 2]
    held = [cache.store(i).view().head_positions[0].tolist() for i in range(3)]
    assert held[0] == held[1]
    assert held[0][0] == held[0][1]
    assert held[2] != held[0]
    assert [len(h[0]) for h in held] == [4 + b for b in (falling(16, 56, [2, 1], 1.75)[g] for g in (0, 0, 1))]


@torch.no_grad()
def test_a_layer_keeps_what_its_own_stock_attention_says(tiny: Callable[..., Any]) -> None:
    """Oracle: the stock model's attention maps, summed and cut into windows by hand; every layer its own group."""
    model = tiny("llama")
    model.set_attn_implementation("eager")
    maps = model(IDS, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    with attach(model, "windowkv(budget_tokens=24, window_tokens=4, span_tokens=8, group_layers=1, beta=1, strategy='average')") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
    for layer in range(3):
        votes = maps[layer][0, :, -4:, :56].sum(dim=1).mean(dim=0)
        best = sorted(range(7), key=lambda i: -float(votes[8 * i : 8 * i + 8].mean()))
        expected = {8 * i + j for i in best[:2] for j in range(8)} | {8 * best[2] + j for j in range(4)} | set(range(56, 60))
        assert set(cache.store(layer).view().head_positions[0, 0].tolist()) == expected


@torch.no_grad()
def test_chunks_and_a_question_that_stays_out(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "windowkv(budget_tokens=16, window_tokens=4, span_tokens=4, group_layers=2)") as w:
        cache = w.prefill(IDS, chunk_tokens=20, each_chunk=True)
        assert [int(h.max()) for h in cache.held()] == [4 + b for b in (falling(12, 56, [2, 1], 1.75)[g] for g in (0, 0, 1))]
        cache = w.cache(question_tokens=6)
        model(IDS, past_key_values=cache)
        assert set(range(54, 60)) <= set(cache.store(2).view().head_positions[0, 0].tolist())


def test_claim_a_phrase_survives_whole_where_single_tokens_are_torn(make_moment: Callable[..., Any]) -> None:
    """A number of four tokens of which the voters look at three; noise is a little above what the fourth gets."""
    weights = torch.full((1, 1, 1, 33), 0.010)
    weights[0, 0, 0, 12:16] = torch.tensor([0.2, 0.2, 0.2, 0.009])
    moment, block = make_moment(weights=weights)
    kept = WindowKV(budget_tokens=9, window_tokens=1, span_tokens=8).reduce(moment, block, None).positions[0].tolist()
    assert set(range(12, 16)) <= set(kept)
    moment, block = make_moment(weights=weights)
    torn = WindowKV(budget_tokens=9, window_tokens=1, span_tokens=1).reduce(moment, block, None).positions[0].tolist()
    assert 15 not in torn


def test_what_is_refused() -> None:
    for option, value in (("strategy", "best"), ("window_tokens", 0), ("span_tokens", 0), ("group_layers", 0), ("beta", 0.5)):
        with pytest.raises(ConfigError, match=option):
            WindowKV(**{option: value})
    with pytest.raises(ConfigError, match="budget_tokens"):
        WindowKV(budget_tokens=32)
    assert WindowKV(budget_tokens=17, strategy="average").voters == 16
    with pytest.raises(RecipeError, match="the same windows in all"):
        Parts.of(Recipe((AdaKV(), WindowKV())))


def test_cost_is_that_of_the_layers_that_look() -> None:
    shape = Shape(layers=24, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=1000)
    cost = WindowKV(budget_tokens=100).cost(shape)
    assert cost.flops == 3 * 2 * 4 * 8 * 32 * 1000
    assert cost.bytes_kept == 100 * shape.token_bytes
