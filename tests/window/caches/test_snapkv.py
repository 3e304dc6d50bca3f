"""SnapKV: the window votes, neighbours share, the best stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window import attach
from baywindow.window.base import LayerInfo, ModelInfo, Shape
from baywindow.window.block import Block
from baywindow.window.caches.base import Moment
from baywindow.window.caches.snapkv import SnapKV

IDS = torch.randint(1, 97, (1, 40), generator=torch.Generator().manual_seed(8))


def moment(weights: Any, heads: int, window: int) -> tuple[Moment, Block]:
    """A moment over ``weights`` [B, Hq, window, L], the last ``window`` tokens being the voters."""
    B, Hq, _, L = weights.shape
    layer = LayerInfo(
        index=0, layer_type="full_attention", sliding_window=None, has_rope=True, q_heads=Hq, kv_heads=heads, head_dim=2,
        value_dim=2, rotary_dim=2, scaling=1.0,
    )  # fmt: skip
    positions = torch.arange(L).expand(B, L)
    block = Block(keys=torch.zeros(B, heads, L, 2), values=torch.zeros(B, heads, L, 2), positions=positions)
    made = Moment(
        info=ModelInfo(name="x", layers=(layer,), trained_tokens=64, vocabulary=9),
        layer=layer, phase="prefill", seen=torch.full((B,), L), protect_from=None,
        queries=torch.zeros(B, Hq, window, 2), q_pos=positions[:, -window:], weights=lambda q, p, b: weights,
        keys=lambda b: b.keys, turn=lambda at: torch.eye(2).expand(B, 2, 2), state={},
    )  # fmt: skip
    return made, block


def test_worked_example() -> None:
    """One head, six tokens, window 2, pooling over 3. Votes of the two window rows for tokens 0 to 3, averaged:
    (0.4+0.2)/2, (0+0)/2, (0.1+0.1)/2, (0.1+0.5)/2 = 0.3, 0, 0.1, 0.3. Pooled with zeros outside: (0+0.3+0)/3 = 0.1,
    (0.3+0+0.1)/3 = 0.1333, (0+0.1+0.3)/3 = 0.1333, (0.1+0.3+0)/3 = 0.1333. Token 0 is the weakest; with 5 of 6 it goes."""
    weights = torch.tensor([[[[0.4, 0.0, 0.1, 0.1, 0.4, 0.0], [0.2, 0.0, 0.1, 0.5, 0.1, 0.1]]]])
    made, block = moment(weights, heads=1, window=2)
    cache = SnapKV(budget_tokens=5, window_tokens=2, kernel_tokens=3)
    scores = cache.score(made, block)
    torch.testing.assert_close(scores[0, 0, :4], torch.tensor([0.1, 0.4 / 3, 0.4 / 3, 0.4 / 3]))
    assert torch.isinf(scores[0, 0, 4:]).all()
    assert cache.reduce(made, block, None).positions.tolist() == [[1, 2, 3, 4, 5]]


@pytest.mark.parametrize("length", [9, 17, 40])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_a_loop_written_from_the_paper(length: int, seed: int) -> None:
    window, kernel, heads, group = 4, 5, 2, 2
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(1, heads * group, window, length, generator=generator)
    for budget in (window + 1, length // 2 + 3, length - 1):
        made, block = moment(weights, heads, window)
        kept = SnapKV(budget_tokens=budget, window_tokens=window, kernel_tokens=kernel).reduce(made, block, None)
        for head in range(heads):
            before = length - window
            votes = [
                sum(float(weights[0, head * group + g, w, t]) for g in range(group) for w in range(window)) / (group * window)
                for t in range(before)
            ]
            pooled = [sum(votes[max(0, t - 2) : t + 3]) / kernel for t in range(before)]
            best = sorted(sorted(range(before), key=lambda t: -pooled[t])[: budget - window])
            assert kept.head_positions[0, head].tolist() == [*best, *range(before, length)]


def planted(length: int, at: int) -> Any:
    """Weights of 4 voters: nearly uniform noise, and one token all of them look at."""
    weights = torch.rand(1, 4, 4, length, generator=torch.Generator().manual_seed(1)) * 0.01
    weights[..., at] = 0.5
    return weights


def test_claim_a_token_the_end_attends_to_survives_where_recency_loses_it() -> None:
    made, block = moment(planted(64, at=20), heads=2, window=4)
    kept = SnapKV(budget_tokens=12, window_tokens=4).reduce(made, block, None).head_positions
    assert (kept == 20).any(dim=-1).all()
    assert 20 not in range(64 - 12, 64)  # what the same budget of recent tokens would hold


@torch.no_grad()
def test_votes_in_a_model_are_its_own_attention(tiny: Callable[..., Any]) -> None:
    """The weights the cache votes with are the stock model's eager attention weights, layer by layer."""
    model = tiny("llama")
    model.set_attn_implementation("eager")
    expected = model(IDS, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    seen: list[Any] = []

    class Spy(SnapKV):
        def score(self, moment: Moment, block: Block) -> Any:
            seen.append(moment.weights(moment.queries, moment.q_pos, block))
            return super().score(moment, block)

    from baywindow.recipe import Recipe

    with attach(model, Recipe((Spy(budget_tokens=10, window_tokens=4),))) as w:
        model(IDS, past_key_values=w.cache())
    for ours, stock in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, stock[:, :, -4:], atol=1e-5, rtol=1e-4)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget_tokens"):
        SnapKV(budget_tokens=32)
    with pytest.raises(ConfigError, match="kernel_tokens"):
        SnapKV(kernel_tokens=4)
    with pytest.raises(ConfigError, match="window_tokens"):
        SnapKV(window_tokens=0)
    with pytest.raises(ConfigError, match="both given"):
        SnapKV(budget_tokens=100, budget_fraction=0.5)


@torch.no_grad()
def test_a_fraction_below_the_window_still_holds_the_window(tiny: Callable[..., Any]) -> None:
    with attach(tiny("llama"), "snapkv(budget_fraction=0.1, window_tokens=8)") as w:
        cache = w.cache()
        tiny("llama")(IDS, past_key_values=cache)
    assert {int(n) for h in cache.held() for n in h.flatten()} == {9}


def test_cost_counts_the_votes() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, element_bytes=4)
    cost = SnapKV(budget_tokens=40, window_tokens=8).cost(shape)
    assert cost.flops == sum(2 * 8 for _layer in range(2) for _head in range(4) for _voter in range(8) for _token in range(100))
    assert cost.bytes_kept == 40 * 2 * 2 * 2 * 8 * 4  # tokens, layers, heads, keys and values, dimension, bytes
