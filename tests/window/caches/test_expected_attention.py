"""Expected Attention: moments of the queries, turned ahead, say what will be looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.block import Block
from baywindow.window.caches.base import Moment
from baywindow.window.caches.expected_attention import ExpectedAttention, gather, statistics

IDS = torch.randint(1, 97, (1, 60), generator=torch.Generator().manual_seed(12))


def state_of(mean: list[float], covariance: list[list[float]] | None) -> dict[str, Any]:
    state = {"count": torch.full((1, 1, 1), 10.0), "mean": torch.tensor([[mean]])}
    return state if covariance is None else state | {"spread": 10.0 * torch.tensor([[covariance]])}


def test_worked_example(make_moment: Callable[..., Any]) -> None:
    """One sink, then keys (1, 0), (0, 1), (2, 0); queries have mean (ln 2, 0), covariance diag(0, 2 ln 2), no rotation, scaling 1.
    Expected exponents μ·k + k·Σk/2: ln 2, ln 2, 2 ln 2, so weights 2 : 2 : 4 = 1/4, 1/4, 1/2 among the three (the sink is not weighed).
    Values have lengths 1, 3, 1 and epsilon is 0.25: scores 0.5·1, 0.5·3, 0.75·1; the sink always stays."""
    keys = torch.tensor([[[[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]]])
    values = torch.tensor([[[[1.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.6, 0.8]]]])
    made, block = make_moment(keys=keys, values=values, state=state_of([math.log(2), 0.0], [[0.0, 0.0], [0.0, 2 * math.log(2)]]))
    cache = ExpectedAttention(budget_tokens=2, sink_tokens=1, epsilon=0.25)
    torch.testing.assert_close(cache.score(made, block), torch.tensor([[[torch.inf, 0.5, 1.5, 0.75]]]))
    assert cache.reduce(made, block, None).positions.tolist() == [[0, 2]]


def test_worked_example_without_covariance_and_values(make_moment: Callable[..., Any]) -> None:
    """Exponents ln 2, 0, 2 ln 2: weights 2/7, 1/7, 4/7."""
    keys = torch.tensor([[[[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]]])
    made, block = make_moment(keys=keys, state=state_of([math.log(2), 0.0], None))
    cache = ExpectedAttention(budget_tokens=2, sink_tokens=1, epsilon=0.0, use_covariance=False, use_values=False)
    torch.testing.assert_close(cache.score(made, block)[0, 0, 1:], torch.tensor([2.0, 1.0, 4.0]) / 7)


@pytest.mark.parametrize("cut", [1, 5, 29])
def test_moments_gathered_in_pieces_are_those_of_all_queries(cut: int) -> None:
    """A large mean beside a small spread: what plain float32 sums would lose."""
    queries = torch.randn(2, 3, 30, 4, generator=torch.Generator().manual_seed(cut)) * 0.01 + 50.0
    counted = torch.ones(2, 30, dtype=torch.bool)
    counted[1, :7] = False
    state: dict[str, Any] = {}
    for piece in (slice(0, cut), slice(cut, 30)):
        gather(state, queries[:, :, piece], counted[:, piece], outer=True)
    mean, covariance = statistics(state)
    for row, first in ((0, 0), (1, 7)):
        exact = queries[row, :, first:].double()
        torch.testing.assert_close(mean[row].double(), exact.mean(dim=1), atol=1e-5, rtol=1e-6)
        for head in range(3):
            expected = torch.cov(exact[head].T, correction=0)
            assert covariance is not None
            torch.testing.assert_close(covariance[row, head].double(), expected, atol=2e-6, rtol=2e-2)


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "qwen3", "granite", "phi3_partial"])
def test_in_a_model_against_a_loop_written_from_the_paper(name: str, tiny: Callable[..., Any]) -> None:
    """Queries seen by the stock model's own attention, rotated back by hand; moments, mean rotation and scores in float64 loops."""
    model = tiny(name)
    scores: list[Any] = []

    class Spy(ExpectedAttention):
        def score(self, moment: Moment, block: Block) -> Any:
            scores.append((super().score(moment, block), moment.keys(block), block.values, moment.layer))
            return scores[-1][0]

    queries: dict[int, Any] = {}
    with attach(model, Recipe((Spy(budget_tokens=20, future_tokens=6, sink_tokens=3),))) as w:
        w.observer = lambda layer, q, k, v: queries.setdefault(layer.index, q)
        model(IDS, past_key_values=w.cache())
        inv_freq = next(iter(w.turners.values())).inv_freq.double()
    for i, (got, keys, values, layer) in enumerate(scores):
        turn = mean_rotation(range(60, 66), inv_freq, layer.head_dim)
        for head in range(layer.kv_heads):
            total = torch.zeros(57, dtype=torch.float64)
            for q_head in range(head * layer.group, (head + 1) * layer.group):
                q = queries[i][0, q_head, 3:].double()
                mu = turn @ q.mean(dim=0)
                sigma = turn @ torch.cov(q.T, correction=0) @ turn.T
                k = keys[0, head, 3:].double()
                exponents = torch.stack([mu @ key * layer.scaling + key @ sigma @ key * layer.scaling**2 / 2 for key in k])
                total += torch.softmax(exponents, dim=0) / layer.group
            expected = (total + 1e-2) * values[0, head, 3:].double().norm(dim=-1)
            torch.testing.assert_close(got[0, head, 3:].double(), expected, atol=1e-6, rtol=1e-3)
            assert torch.isinf(got[0, head, :3]).all()


def mean_rotation(positions: Any, inv_freq: Any, dim: int) -> Any:
    """Column-vector rotation averaged over positions, in the half layout; columns beyond the rotated ones stay."""
    half = inv_freq.shape[0]
    mean = torch.zeros(dim, dim, dtype=torch.float64)
    for m in positions:
        one = torch.eye(dim, dtype=torch.float64)
        for f in range(half):
            c, s = math.cos(m * float(inv_freq[f])), math.sin(m * float(inv_freq[f]))
            one[f, f], one[f, f + half], one[f + half, f], one[f + half, f + half] = c, -s, s, c
        mean += one
    return mean / len(positions)


@torch.no_grad()
def test_moments_are_freed_once_the_prompt_is_over(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "expected_attention(budget_tokens=20)") as w:
        closed, stepped = w.cache(), w.cache()
        for cache in (closed, stepped):
            model(IDS, past_key_values=cache)
            assert all("expected_attention" in store.states for store in cache.stores)
        closed.close()
        model(IDS[:, :1], past_key_values=stepped)
    for cache in (closed, stepped):
        assert not any("expected_attention" in store.states for store in cache.stores)


@torch.no_grad()
def test_full_budget_and_smallest_budget(next_logits: Callable[..., Any]) -> None:
    assert torch.equal(next_logits(IDS, "expected_attention(budget_tokens=60)"), next_logits(IDS, "stock"))
    assert torch.isfinite(next_logits(IDS, "expected_attention(budget_tokens=1, sink_tokens=0)")).all()
    assert torch.isfinite(next_logits(IDS, "expected_attention(budget_fraction=0.01)")).all()


def test_claim_what_queries_look_for_survives_where_recency_loses_it(make_moment: Callable[..., Any]) -> None:
    """Noise keys, and one early key along the mean query."""
    keys = 0.3 * torch.randn(1, 1, 64, 2, generator=torch.Generator().manual_seed(5))
    keys[0, 0, 13] = torch.tensor([3.0, 0.0])
    made, block = make_moment(keys=keys, values=torch.ones(1, 1, 64, 2), state=state_of([2.0, 0.0], [[0.1, 0.0], [0.0, 0.1]]))
    assert 13 in ExpectedAttention(budget_tokens=8).reduce(made, block, None).positions[0].tolist()
    assert 13 not in range(64 - 8, 64)


def test_what_is_refused() -> None:
    for option, value in (("epsilon", -1.0), ("sink_tokens", -1), ("future_tokens", 0)):
        with pytest.raises(ConfigError, match=option):
            ExpectedAttention(**{option: value})
    with pytest.raises(ConfigError, match="budget_tokens"):
        ExpectedAttention(budget_tokens=4)


def test_cost_counts_moments_and_scores() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, element_bytes=4)
    one_head = 2 * 8 * 8 * 100  # outer products of the queries, and again the quadratic form of the keys
    assert ExpectedAttention().cost(shape).flops == 2 * 4 * (2 * one_head + 2 * 8 * 100)
    assert ExpectedAttention(use_covariance=False).cost(shape).flops == 2 * 4 * 2 * 8 * 100
