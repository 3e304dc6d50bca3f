"""H2O: sums of attention decide, half the budget is recent, sums follow their tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import Recipe, parse
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.base import Seen
from baywindow.window.caches.h2o import H2O, MASS
from baywindow.window.engine.parts import Parts

IDS = torch.randint(1, 97, (1, 24), generator=torch.Generator().manual_seed(5))


def test_worked_example(make_moment: Callable[..., Any]) -> None:
    """Six tokens, budget 4: the two most recent (4, 5) stay, and of tokens 0 to 3 the two with the largest sums: 1 and 3."""
    made, block = make_moment(tags={MASS: torch.tensor([[[0.5, 2.0, 0.1, 1.5, 0.0, 9.0]]])})
    kept = H2O(budget_tokens=4).reduce(made, block, None)
    assert kept.positions.tolist() == [[1, 3, 4, 5]]
    assert kept.tags[MASS].tolist() == [[[2.0, 1.5, 0.0, 9.0]]]


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, [0, 1, 2, 3]), (1.0, [2, 3, 4, 5]), (0.25, [0, 1, 2, 5])])
def test_the_share_of_recent_tokens_is_an_option(fraction: float, expected: list[int], make_moment: Callable[..., Any]) -> None:
    made, block = make_moment(tags={MASS: torch.tensor([[[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]]])})
    assert H2O(budget_tokens=4, recent_fraction=fraction).reduce(made, block, None).positions.tolist() == [expected]


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("budget", [2, 7, 23])
def test_a_run_in_a_model_against_plain_bookkeeping(seed: int, budget: int, tiny: Callable[..., Any]) -> None:
    """The bookkeeping of the paper's Algorithm 1 in dictionaries, fed with the attention weights of the run itself."""
    model = tiny("llama", "float32", seed)
    ids = torch.randint(1, 97, (1, 24), generator=torch.Generator().manual_seed(seed))
    seen: list[tuple[list[list[int]], Any, list[int]]] = []

    class Spy(H2O):
        def watch(self, look: Seen) -> None:
            super().watch(look)
            if look.layer.index == 1:
                n = look.q_pos.shape[1]
                seen.append((look.block.head_positions[0].tolist(), look.weights(0, n)[0], look.q_pos[0].tolist()))

    with attach(model, Recipe((Spy(budget_tokens=budget),))) as w:
        cache = w.cache()
        model(ids, past_key_values=cache)
        for i in range(3):
            model(ids[:, i : i + 1], past_key_values=cache)
        final = cache.store(1).view().head_positions[0].tolist()
    sums: list[dict[int, float]] = [{}, {}]
    for positions, weights, _queries in seen:
        for head in range(2):
            held = positions[head]
            for slot, token in enumerate(held):
                sums[head][token] = sums[head].get(token, 0.0) + float(weights[2 * head : 2 * head + 2, :, slot].double().sum()) / 2
            last = max(held)
            recent = [t for t in held if t > last - budget // 2]
            older = sorted((t for t in held if t not in recent), key=lambda t: -sums[head][t])[: budget - len(recent)]
            sums[head] = {t: sums[head][t] for t in [*older, *recent]} if len(held) > budget else sums[head]
    assert final == [sorted(sums[0]), sorted(sums[1])]


@torch.no_grad()
def test_padded_queries_add_nothing(tiny: Callable[..., Any]) -> None:
    """Sums of a left-padded row are those of the row alone; every real query gives away exactly 1."""
    model = tiny("llama")
    padded, mask = torch.cat([torch.zeros(1, 6, dtype=torch.long), IDS], dim=1), torch.ones(1, 30, dtype=torch.long)
    mask[0, :6] = 0
    with attach(model, "h2o(budget_tokens=100)") as w:
        one, two = w.cache(), w.cache()
        model(IDS, past_key_values=one)
        model(padded, attention_mask=mask, past_key_values=two)
    alone, beside = (c.store(0).view().tags[MASS] for c in (one, two))
    torch.testing.assert_close(beside[..., 6:], alone, atol=1e-5, rtol=1e-5)
    assert float(beside[..., :6].abs().max()) == 0.0
    torch.testing.assert_close(alone.sum(dim=-1), torch.full((1, 2), 24.0))


def test_the_question_does_not_vote(layer_of: Callable[..., Any], make_moment: Callable[..., Any]) -> None:
    """Queries at −1 (padding, and a question kept out) leave no trace in the sums."""
    _, block = make_moment(tags={MASS: torch.zeros(1, 1, 3)})
    weights = torch.tensor([[[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]]])
    look = Seen(
        layer=layer_of(), phase="prefill", queries=torch.zeros(1, 1, 3, 2), q_pos=torch.tensor([[0, 1, -1]]), block=block,
        weights=lambda a, b: weights[:, :, a:b], state={}, tags={},
    )  # fmt: skip
    H2O().watch(look)
    assert look.tags[MASS].tolist() == [[[1.5, 0.5, 0.0]]]


@torch.no_grad()
def test_full_budget_changes_nothing_bit_for_bit(next_logits: Callable[..., Any]) -> None:
    assert torch.equal(next_logits(IDS, "h2o(budget_tokens=64)"), next_logits(IDS, "stock"))
    assert torch.isfinite(next_logits(IDS, "h2o(budget_tokens=1)")).all()


def test_claim_a_heavy_hitter_outlives_recency(make_moment: Callable[..., Any]) -> None:
    sums = torch.rand(1, 1, 64, generator=torch.Generator().manual_seed(2))
    sums[..., 9] = 5.0
    made, block = make_moment(tags={MASS: sums})
    assert 9 in H2O(budget_tokens=8).reduce(made, block, None).positions[0].tolist()
    assert 9 not in range(64 - 8, 64)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="recent_fraction"):
        H2O(recent_fraction=1.5)
    for other, reason in (("kivi", "packed groups"), ("offload", "beside every token"), ("ada_kv", "unequal length")):
        with pytest.raises(RecipeError, match=reason):
            Parts.of(parse(f"h2o + {other}"))


def test_cost_counts_all_pairs_once_more() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=50, generated_tokens=3, element_bytes=4)
    assert H2O(budget_tokens=10).cost(shape).flops == 2 * 4 * (2 * 8) * (50 * 50 + 3 * 10)
