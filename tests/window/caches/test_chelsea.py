"""Chelsea: alike keys of a chunk merge, and a merged token counts as often as it has tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import parse
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.block import LOG_TOKENS
from baywindow.window.caches.chelsea import Chelsea, best_matches
from baywindow.window.engine.parts import Parts

IDS = torch.randint(1, 97, (2, 60), generator=torch.Generator().manual_seed(4))
BARE = {"sink_tokens": 0, "recent_tokens": 0}


def test_worked_example(make_moment: Callable[..., Any]) -> None:
    """Four tokens, one chunk: even places 0, 2 look among odd places 1, 3. Key 0 (1, 0) is like key 1 (2, 0) with cosine 1; key 2 (0, 1) is
    like key 3 (1, 1) with 0.71. One token too many: 0 merges into 1, giving ((1, 0) + (2, 0)) / 2 = (1.5, 0) at position 1. Two too many:
    2 merges into 3 as well, giving (0.5, 1)."""
    keys = torch.tensor([[[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]])
    values = torch.tensor([[[[4.0, 0.0], [8.0, 0.0], [1.0, 1.0], [3.0, 3.0]]]])
    moment, block = make_moment(keys=keys, values=values)
    once = Chelsea(budget_tokens=3, **BARE).reduce(moment, block, None)
    assert once.keys.tolist() == [[[[1.5, 0.0], [0.0, 1.0], [1.0, 1.0]]]]
    assert once.values.tolist() == [[[[6.0, 0.0], [1.0, 1.0], [3.0, 3.0]]]]
    assert once.positions.tolist() == [[[1, 2, 3]]]
    torch.testing.assert_close(once.tags[LOG_TOKENS].exp(), torch.tensor([[[2.0, 1.0, 1.0]]]))
    twice = Chelsea(budget_tokens=2, **BARE).reduce(moment, block, None)
    assert twice.keys.tolist() == [[[[1.5, 0.0], [0.5, 1.0]]]]


def test_several_tokens_merge_into_one_by_their_counts(make_moment: Callable[..., Any]) -> None:
    """All alike: 0 and 2 both merge into 1 (the first of equals), which becomes the mean of three; the next round merges that with the
    fourth, weighted 3 to 1: (3·2 + 1·6) / 4 = 3."""
    keys = torch.tensor([[[[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [6.0, 0.0]]]])
    moment, block = make_moment(keys=keys)
    two = Chelsea(budget_tokens=2, **BARE).reduce(moment, block, None)
    assert two.keys[..., 0].tolist() == [[[2.0, 6.0]]]
    one = Chelsea(budget_tokens=1, **BARE).reduce(moment, block, None)
    torch.testing.assert_close(one.keys[..., 0], torch.tensor([[[3.0]]]))
    torch.testing.assert_close(one.tags[LOG_TOKENS], torch.tensor([[[math.log(4)]]]))


def slow(keys: list[Any], chunk: int, budget: int) -> list[tuple[Any, int, int]]:
    """One head: (key, tokens, last position) after rounds of matching, in loops."""
    tokens = [(key, 1, i) for i, key in enumerate(keys)]
    while len(tokens) > budget:
        size = min(chunk, len(tokens) + len(tokens) % 2)
        edges = []
        for a in range(0, len(tokens), 2):
            partners = list(range(a // size * size + 1, min(len(tokens), (a // size + 1) * size), 2))
            if partners:
                cosine = [float(torch.cosine_similarity(tokens[a][0], tokens[b][0], dim=0)) for b in partners]
                edges.append((-max(cosine), a, partners[cosine.index(max(cosine))]))
        sums = [(key * n, n) for key, n, _ in tokens]
        gone = set()
        for _, a, b in sorted(edges)[: len(tokens) - budget]:
            sums[b] = (sums[b][0] + tokens[a][0] * tokens[a][1], sums[b][1] + tokens[a][1])
            gone.add(a)
        tokens = [(s / n, n, tokens[i][2]) for i, (s, n) in enumerate(sums) if i not in gone]
    return tokens


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("length", "budget"), [(17, 16), (40, 9), (64, 30)])
def test_against_a_loop_written_from_the_paper(make_moment: Callable[..., Any], seed: int, length: int, budget: int) -> None:
    keys = torch.randn(1, 2, length, 6, generator=torch.Generator().manual_seed(seed))
    moment, block = make_moment(keys=keys)
    kept = Chelsea(budget_tokens=budget, chunk_tokens=8, **BARE).reduce(moment, block, None)
    for head in range(2):
        expected = slow(list(keys[0, head]), 8, budget)
        torch.testing.assert_close(kept.keys[0, head], torch.stack([key for key, _, _ in expected]), atol=1e-5, rtol=1e-4)
        assert kept.tags[LOG_TOKENS][0, head].exp().round().int().tolist() == [n for _, n, _ in expected]
        assert kept.head_positions[0, head].tolist() == [at for _, _, at in expected]


def test_partners_stand_in_the_same_chunk() -> None:
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.1]])[None, None]
    similar, at = best_matches(keys, torch.ones(1, 1, 4, dtype=torch.bool), 2)
    assert at.tolist() == [[[1, 3]]]  # in one chunk of four, the first would have chosen the fourth
    assert similar[0, 0, 0] == 0
    assert best_matches(keys, torch.ones(1, 1, 4, dtype=torch.bool), 4)[1].tolist() == [[[3, 3]]]


def test_first_and_recent_tokens_and_the_question_do_not_merge(make_moment: Callable[..., Any]) -> None:
    keys = torch.randn(1, 1, 40, 4, generator=torch.Generator().manual_seed(0))
    moment, block = make_moment(keys=keys, protect_from=torch.tensor([36]))
    kept = Chelsea(budget_tokens=16, sink_tokens=4, recent_tokens=6, chunk_tokens=8).reduce(moment, block, None)
    held = kept.head_positions[0, 0].tolist()
    assert len(held) == 16 + 4
    assert {0, 1, 2, 3, *range(30, 36), *range(36, 40)} <= set(held)
    for at in (0, 3, 30, 39):
        torch.testing.assert_close(kept.keys[0, 0, held.index(at)], keys[0, 0, at])


@torch.no_grad()
@pytest.mark.parametrize(("kind", "attention"), [("llama", "sdpa"), ("llama", "eager"), ("gemma2", "eager")])
def test_equal_tokens_merge_without_changing_attention(tiny: Callable[..., Any], kind: str, attention: str) -> None:
    """Every kernel adds the logarithm: a token repeated k times and merged is worth k. Told by making the cache's pairs equal by hand."""
    model = tiny(kind)
    was = model.config._attn_implementation
    model.set_attn_implementation(attention)
    try:
        logits = {}
        for recipe in ("stock", "chelsea(budget_tokens=30, sink_tokens=0, recent_tokens=0, chunk_tokens=2, slack_tokens=0)"):
            with attach(model, recipe) as w:
                cache = w.cache()
                cache.mode = "hold"
                model(IDS, past_key_values=cache)
                for store in cache.stores:
                    if store.tail is not None and not store.is_sliding:
                        for x in (store.tail.keys, store.tail.values):
                            x[:, :, 0:60:2] = x[:, :, 1:60:2]
                cache.mode = "auto"
                if recipe != "stock":
                    merge_now(w, cache)
                    assert {int(n) for s in cache.stores if not s.is_sliding for n in s.held().flatten()} == {30}
                cache.mode = "hold"
                logits[recipe] = [model(IDS[:, i : i + n], past_key_values=cache).logits for i, n in ((0, 1), (1, 4))]
    finally:
        model.set_attn_implementation(was)
    for ours, stock in zip(*reversed(logits.values()), strict=True):
        torch.testing.assert_close(ours, stock, atol=1e-4, rtol=1e-4)


def merge_now(w: Any, cache: Any) -> None:
    """Let the reducer act on every full layer, as at the end of a prompt."""
    from baywindow.window.engine.layer import LayerRun
    from baywindow.window.engine.recalling import NO_QUERIES
    from baywindow.window.engine.settling import reduce

    for layer in w.info.full_layers:
        store = cache.store(layer.index)
        w.forward.begin(cache, None)
        reduce(LayerRun(w, layer, w.found.modules[layer.index], NO_QUERIES, store, {}), store, "prefill")


@torch.no_grad()
def test_generation_stays_within_the_budget_and_merges_in_strokes(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "chelsea(budget_tokens=32, sink_tokens=2, recent_tokens=4, chunk_tokens=8)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        held = [int(cache.held()[0].max())]
        for i in range(5):
            model(IDS[:, i : i + 1], past_key_values=cache)
            held.append(int(cache.held()[0].max()))
        tokens = cache.store(0).tail.block.tags[LOG_TOKENS].exp().sum(dim=-1)
    assert held == [32, 30, 31, 32, 30, 31]  # a sixteenth below the budget, then filled again
    torch.testing.assert_close(tokens, torch.full((2, 2), 65.0), atol=1e-3, rtol=1e-4)  # nobody is lost


@torch.no_grad()
def test_a_step_that_cannot_merge_does_not_look(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Budget 32, slack 2: of five steps the first and the fourth pass the budget, in each of the layers."""
    model, looks, reduce = tiny("llama"), [], Chelsea.reduce
    monkeypatch.setattr(Chelsea, "reduce", lambda self, *given: looks.append(given[0].layer.index) or reduce(self, *given))
    with attach(model, "chelsea(budget_tokens=32, sink_tokens=2, recent_tokens=4, chunk_tokens=8)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        looks.clear()
        for i in range(5):
            model(IDS[:, i : i + 1], past_key_values=cache)
    assert looks == 2 * [layer.index for layer in w.info.layers]


def test_claim_merging_stays_closer_to_full_attention_than_dropping(make_moment: Callable[..., Any]) -> None:
    """Keys drift slowly, as those of neighbours do. A quarter is kept: attention over merged tokens is closer to full attention than over
    every fourth token, for queries of all kinds."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(1, 1, 256, 16, generator=generator).cumsum(dim=2) * 0.3
    values = torch.randn(1, 1, 256, 16, generator=generator).cumsum(dim=2) * 0.3
    moment, block = make_moment(keys=keys, values=values)
    kept = Chelsea(budget_tokens=64, **BARE).reduce(moment, block, None)
    query = torch.randn(1, 1, 32, 16, generator=generator)

    def attend(k: Any, v: Any, bias: Any = 0.0) -> Any:
        return torch.softmax(query @ k.transpose(2, 3) * 0.25 + bias, dim=-1) @ v

    full = attend(keys, values)
    merged = attend(kept.keys, kept.values, kept.tags[LOG_TOKENS][:, :, None])
    dropped = attend(keys[:, :, ::4], values[:, :, ::4])
    assert float((merged - full).norm()) < 0.8 * float((dropped - full).norm())
    unweighted = attend(kept.keys, kept.values)
    assert float((merged - full).norm()) < float((unweighted - full).norm())


def test_cost_is_linear_in_the_length() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=1000, element_bytes=4)
    cost = Chelsea(budget_tokens=100, chunk_tokens=64).cost(shape)
    pairs = sum(32 * 32 for _chunk in range(1000 // 64)) + (1000 % 64) * 64 // 4
    assert cost.flops == pytest.approx(2 * 2 * 2 * 8 * pairs * 2, rel=0.01)  # the first round, and as much again for all others
    assert cost.bytes_kept == 100 * 2 * 2 * 2 * 8 * 4


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="chunk_tokens"):
        Chelsea(chunk_tokens=3)
    with pytest.raises(ConfigError, match="slack_tokens"):
        Chelsea(slack_tokens=-1)
    for other in ("kivi", "offload", "ada_kv"):
        with pytest.raises(RecipeError, match="cannot stand in one recipe"):
            Parts.of(parse(f"chelsea + {other}"))
