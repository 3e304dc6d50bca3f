"""KeyDiff: keys unlike the mean direction stay."""

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
from baywindow.window.caches.keydiff import KeyDiff

IDS = torch.randint(1, 97, (1, 40), generator=torch.Generator().manual_seed(7))


def test_worked_example(make_moment: Callable[..., Any]) -> None:
    """Unit keys at 0°, 0°, 90° and one of length 5 at 0°. The mean of the unit keys is (3/4, 1/4); cosines to it are 3/√10 for the
    three alike (length does not matter) and 1/√10 for the odd one, which is kept first."""
    keys = torch.tensor([[[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 0.0]]]])
    made, block = make_moment(keys=keys)
    scores = KeyDiff(budget_tokens=1).score(made, block)
    expected = torch.tensor([[[-3 / math.sqrt(10)] * 2 + [-1 / math.sqrt(10), -3 / math.sqrt(10)]]])
    torch.testing.assert_close(scores, expected)
    assert KeyDiff(budget_tokens=1).reduce(made, block, None).positions.tolist() == [[2]]


@pytest.mark.parametrize("length", [3, 9, 40])  # two keys lie equally far from their mean: a tie
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_a_loop_written_from_the_paper(length: int, seed: int, make_moment: Callable[..., Any]) -> None:
    keys = torch.randn(1, 2, length, 8, generator=torch.Generator().manual_seed(seed))
    for budget in {1, max(1, length // 3), length - 1}:
        made, block = make_moment(keys=keys)
        kept = KeyDiff(budget_tokens=budget).reduce(made, block, None).head_positions
        for head in range(2):
            rows = [[float(x) for x in keys[0, head, t].double()] for t in range(length)]
            lengths = [math.sqrt(sum(x * x for x in row)) for row in rows]
            anchor = [sum(row[d] / n for row, n in zip(rows, lengths, strict=True)) / length for d in range(8)]
            size = math.sqrt(sum(a * a for a in anchor))
            cosine = [sum(a * x for a, x in zip(anchor, row, strict=True)) / (size * n) for row, n in zip(rows, lengths, strict=True)]
            assert kept[0, head].tolist() == sorted(sorted(range(length), key=lambda t: cosine[t])[:budget])


def test_holes_and_the_question_do_not_pull_the_anchor(make_moment: Callable[..., Any]) -> None:
    keys = torch.randn(1, 1, 6, 4, generator=torch.Generator().manual_seed(0))
    made, block = make_moment(keys=keys[:, :, :4])
    alone = KeyDiff(budget_tokens=2).score(made, block)
    more = torch.cat([torch.full((1, 1, 2, 4), 50.0), keys], dim=2)  # two holes in front, two question tokens behind
    padded, wide = make_moment(keys=more, positions=torch.tensor([[-1, -1, 0, 1, 2, 3, 4, 5]]), protect_from=torch.tensor([4]))
    torch.testing.assert_close(KeyDiff(budget_tokens=2).score(padded, wide)[..., 2:6], alone)
    kept = KeyDiff(budget_tokens=2).reduce(padded, wide, None).positions[0].tolist()
    assert kept[-2:] == [4, 5]
    assert len(kept) == 4


@torch.no_grad()
def test_keys_are_those_of_the_stock_cache(tiny: Callable[..., Any]) -> None:
    """The keys it compares are the rotated ones that the stock model caches."""
    model = tiny("llama")
    seen: list[Any] = []

    class Spy(KeyDiff):
        def score(self, moment: Moment, block: Block) -> Any:
            seen.append(moment.keys(block))
            return super().score(moment, block)

    stock = model(IDS, use_cache=True).past_key_values
    with attach(model, Recipe((Spy(budget_tokens=10),))) as w:
        model(IDS, past_key_values=w.cache())
    for ours, layer in zip(seen, stock.layers, strict=True):
        torch.testing.assert_close(ours, layer.keys)


@torch.no_grad()
def test_full_budget_and_smallest_budget(next_logits: Callable[..., Any]) -> None:
    assert torch.equal(next_logits(IDS, "keydiff(budget_tokens=40)"), next_logits(IDS, "stock"))
    assert torch.isfinite(next_logits(IDS, "keydiff(budget_tokens=1)")).all()


def test_claim_a_distinctive_key_survives_where_recency_loses_it(make_moment: Callable[..., Any]) -> None:
    keys = torch.tensor([1.0, 0.1]).repeat(1, 1, 64, 1) + 0.05 * torch.randn(1, 1, 64, 2, generator=torch.Generator().manual_seed(3))
    keys[0, 0, 11] = torch.tensor([-0.2, 1.0])
    made, block = make_moment(keys=keys)
    assert 11 in KeyDiff(budget_tokens=8).reduce(made, block, None).positions[0].tolist()
    assert 11 not in range(64 - 8, 64)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget_fraction"):
        KeyDiff(budget_fraction=1.5)


def test_cost_grows_with_the_prompt_alone() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, element_bytes=4)
    cost = KeyDiff(budget_tokens=40).cost(shape)
    assert cost.flops == 8 * 2 * 2 * 8 * 100  # length, unit key, mean, cosine: eight operations an element
    assert cost.bytes_kept == 40 * 2 * 2 * 2 * 8 * 4
