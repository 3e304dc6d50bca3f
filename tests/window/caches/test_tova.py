"""TOVA: the newest query says what goes, alike for all heads of a layer, at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import Recipe, parse
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.block import Block
from baywindow.window.caches.base import Moment
from baywindow.window.caches.tova import TOVA
from baywindow.window.engine.parts import Parts

IDS = torch.randint(1, 97, (1, 30), generator=torch.Generator().manual_seed(3))


def test_worked_example(make_moment: Callable[..., Any]) -> None:
    """Two query heads, one key/value head, five tokens. Means of the two heads: 0.3, 0.05, 0.35, 0.2, 0.1. With a budget of 3 tokens
    1 and 4 go: the newest one, 4, is not safe."""
    weights = torch.tensor([[[[0.5, 0.1, 0.2, 0.1, 0.1]], [[0.1, 0.0, 0.5, 0.3, 0.1]]]])
    made, block = make_moment(weights=weights)
    assert TOVA(budget_tokens=3).reduce(made, block, None).positions.tolist() == [[0, 2, 3]]


@pytest.mark.parametrize("length", [2, 9, 33])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_a_loop_written_from_the_paper(length: int, seed: int, make_moment: Callable[..., Any]) -> None:
    weights = torch.rand(1, 4, 1, length, generator=torch.Generator().manual_seed(seed))
    for budget in {1, max(1, length // 2), length - 1}:
        made, block = make_moment(weights=weights, kv_heads=2)
        kept = TOVA(budget_tokens=budget).reduce(made, block, None).head_positions
        held = list(range(length))
        while len(held) > budget:  # Algorithm 1: drop the state with the smallest mean weight
            held.remove(min(held, key=lambda t: sum(float(weights[0, h, 0, t]) for h in range(4))))
        assert kept[0].tolist() == [held, held]


@torch.no_grad()
def test_after_every_token_the_least_attended_one_goes(tiny: Callable[..., Any]) -> None:
    """In a model, step by step: what is held afterwards is what was held, without the smallest mean weight, computed here from the
    rotated keys and queries alone."""
    model = tiny("llama")
    steps: list[tuple[list[int], list[float]]] = []
    held: dict[int, list[int]] = {}

    class Spy(TOVA):
        def reduce(self, moment: Moment, block: Block, allocator: Any) -> Block:
            out = super().reduce(moment, block, allocator)
            if moment.layer.index == 0:
                steps.append((block.head_positions[0, 0].tolist(), slow_means(moment, block)))
                held[len(steps)] = out.head_positions[0, 0].tolist()
            return out

    with attach(model, Recipe((Spy(budget_tokens=8),))) as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        for i in range(4):
            model(IDS[:, i : i + 1], past_key_values=cache)
    assert len(steps) == 5
    for number, (before, means) in enumerate(steps, 1):
        best = sorted(range(len(before)), key=lambda t: -means[t])[:8]
        assert held[number] == sorted(before[t] for t in best)


def slow_means(moment: Moment, block: Block) -> list[float]:
    """Mean softmax weight of each token, from angles computed here."""
    D = moment.layer.head_dim
    frequencies = [10000.0 ** (-2 * i / D) for i in range(D // 2)]
    keys = moment.keys(block)[0].double()
    at = float(moment.q_pos[0, -1])
    means = torch.zeros(keys.shape[1], dtype=torch.float64)
    for head in range(moment.layer.q_heads):
        q = moment.queries[0, head, -1].double()
        angles = torch.tensor([at * f for f in frequencies], dtype=torch.float64)
        a, b = q[: D // 2], q[D // 2 :]
        turned = torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()])
        means += torch.softmax(keys[head // moment.layer.group] @ turned / D**0.5, dim=0)
    return (means / moment.layer.q_heads).tolist()


@torch.no_grad()
def test_a_budget_above_everything_changes_nothing(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")

    def logits(recipe: str) -> Any:
        with attach(model, recipe) as w:
            cache = w.cache()
            first = model(IDS, past_key_values=cache).logits
            return torch.cat([first, model(IDS[:, :1], past_key_values=cache).logits], dim=1)

    assert torch.equal(logits("tova(budget_tokens=31)"), logits("stock"))


@torch.no_grad()
def test_one_token_is_enough_to_go_on(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "tova(budget_tokens=1)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        out = model(IDS[:, :1], past_key_values=cache).logits
    assert torch.isfinite(out).all()
    assert {int(n) for held in cache.held() for n in held.flatten()} == {1}


def test_claim_a_needed_early_token_survives_where_recency_loses_it(make_moment: Callable[..., Any]) -> None:
    weights = torch.rand(1, 2, 1, 64, generator=torch.Generator().manual_seed(1)) * 0.01
    weights[..., 5] = 0.5
    made, block = make_moment(weights=weights)
    assert 5 in TOVA(budget_tokens=8).reduce(made, block, None).positions[0].tolist()
    assert 5 not in range(64 - 8, 64)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget_tokens"):
        TOVA(budget_tokens=0)
    with pytest.raises(RecipeError, match="tova and kivi"):
        Parts.of(parse("tova + kivi"))
    with pytest.raises(RecipeError, match="tova and ada_kv"):
        Parts.of(parse("ada_kv + tova"))


def test_cost_counts_one_query_of_the_prompt_and_one_a_step() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, generated_tokens=3, element_bytes=4)
    per_pair = 2 * 8
    assert TOVA(budget_tokens=10).cost(shape).flops == 2 * 4 * per_pair * (100 + 3 * 11)
    assert TOVA(budget_tokens=10).cost(shape).bytes_kept == 10 * 2 * 2 * 2 * 8 * 4
