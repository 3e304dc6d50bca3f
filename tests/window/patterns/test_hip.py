"""HiP: the halving search, what is always read, and how long a step's choice lasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.patterns.hip import HiP, tree_search

IDS = torch.randint(1, 97, (1, 60), generator=torch.Generator().manual_seed(41))


def test_worked_example() -> None:
    """Eight keys with products 0 1 2 9 4 5 6 7, two kept, blocks of one.

    Spans 0–3 and 4–7 are halved: first keys 0, 2, 4, 6 score 0, 2, 4, 6, so 4–5 and 6–7 stay (9 is lost: its span began with 2).
    Halved again: 4, 5, 6, 7; the last two stay.
    """
    k = torch.tensor([0.0, 1, 2, 9, 4, 5, 6, 7]).view(1, 1, 8, 1)
    q = torch.ones(1, 1, 1, 1, 1)
    assert tree_search(q, k, torch.tensor([8]), 2, 1).flatten().tolist() == [6, 7]
    # Of one block and no more, both places but one stay empty; of two, both are kept unseen.
    assert tree_search(q, k, torch.tensor([1]), 2, 1).flatten().tolist() == [-1, 0]
    assert tree_search(q, k, torch.tensor([2]), 2, 1).flatten().tolist() == [0, 1]


def slow_search(q: Any, k: Any, count: int, kept: int, k_tokens: int) -> list[int]:
    """One head and block of queries, with lists."""
    spans = [(count * j // kept, count * (j + 1) // kept) for j in range(kept)] if count > kept else [(j, j + 1) for j in range(count)]
    while max((b - a for a, b in spans), default=0) > 1:
        halves = [(x, y) for a, b in spans for x, y in ((a, a + (b - a) // 2), (a + (b - a) // 2, b)) if y > x]
        halves.sort(key=lambda s: -float((q @ k[s[0] * k_tokens : (s[0] + 1) * k_tokens].T).max()))
        spans = halves[:kept]
    return sorted(a for a, _ in spans)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("kept", "k_tokens"), [(3, 1), (4, 2), (5, 4)])
def test_the_search_against_lists(seed: int, kept: int, k_tokens: int) -> None:
    torch.manual_seed(seed)
    q, k = torch.randn(1, 2, 6, 5, 8), torch.randn(1, 2, 100, 8)
    counts = torch.tensor([0, 2, 5, 13, 20, 25])
    got = tree_search(q, k, counts, kept, k_tokens)
    for head in range(2):
        for i, count in enumerate(counts.tolist()):
            want = slow_search(q[0, head, i], k[0, head], count, kept, k_tokens)
            assert [j for j in got[0, head, i].tolist() if j >= 0] == want


def test_near_and_first_keys_are_always_read(glance_at: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    part = HiP(budget_tokens=8, local_tokens=10, sink_tokens=3, q_tokens=16, k_tokens=4, dense_layers=0)
    chosen = part.select(glance_at(torch.randn(1, 4, 50, 8), torch.randn(1, 2, 90, 8)))
    assert chosen is not None
    assert chosen.blocks.shape[:3] == (1, 2, 4)
    for i in range(4):
        start = 40 + 16 * i
        seen = chosen.before(i, start)
        assert bool(seen[..., start - 10 :].all())
        assert bool(seen[..., :3].all())
        assert int(seen.sum(dim=-1).max()) <= 8 + 10 + 2 * 4 + 4  # and what completes blocks


def test_claim_a_needle_outside_a_window_of_the_same_budget_is_found(glance_at: Callable[..., Any]) -> None:
    """One key that all queries want and whose neighbours resemble it, as neighbours do; 2,048 tokens, 128 searched."""
    torch.manual_seed(1)
    q, k = torch.randn(1, 2, 32, 16), torch.randn(1, 1, 2048, 16)
    k[:, :, 512:640] += q.mean(dim=(1, 2))[:, None, None] * 12
    k[:, :, 600] += q.mean(dim=(1, 2))[:, None] * 40
    chosen = HiP(budget_tokens=128, local_tokens=16, sink_tokens=4, q_tokens=32, k_tokens=8, dense_layers=0).select(glance_at(q, k))
    assert chosen is not None
    assert bool(chosen.before(0, 2016)[0, 0, 600])
    assert 600 < 2016 - (128 + 16)


def test_a_step_keeps_its_choice_for_a_while(glance_at: Callable[..., Any]) -> None:
    torch.manual_seed(2)
    part = HiP(budget_tokens=8, local_tokens=4, sink_tokens=0, k_tokens=4, refresh_steps=3, dense_layers=0)
    k, state, found = torch.randn(1, 1, 210, 8), {}, []
    for i in range(5):
        q = torch.randn(1, 2, 1, 8)
        chosen = part.select(glance_at(q, k[:, :, : 200 + i], state=state))
        assert chosen is not None
        found.append(chosen.blocks[0, 0, 0, :2].tolist())
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] != found[0]


@torch.no_grad()
def test_a_budget_of_everything_is_the_stock_model_and_steps_read_less(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    stock = model(IDS).logits
    with attach(model, "hip(budget_tokens=60)") as w:
        torch.testing.assert_close(model(IDS, past_key_values=w.cache()).logits, stock, atol=1e-4, rtol=1e-4)
    with attach(model, "hip(budget_tokens=8, local_tokens=8, sink_tokens=2, q_tokens=8, k_tokens=2, dense_layers=1)") as w:
        cache = w.prefill(IDS)
        before = cache.pairs
        model(IDS[:, :1], past_key_values=cache)
        read, dense = (b - a for a, b in zip(before, cache.pairs, strict=True))
    assert dense == 2 * 2 * 61  # layers in which keys are chosen, key/value heads, keys
    assert read <= 2 * 2 * (8 + 8 + 2 + 2 + 1)


def test_cost() -> None:
    shape = Shape(layers=5, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=4096)
    cost = HiP().cost(shape)
    # 3 rounds (4096 / 512 = 2³) score 2 · 512 keys for every second query: 2 · acting layers · heads · channels · pairs
    assert cost.flops == 3 * 2 * 2 * 4 * 8 * (2048 * 1024)
    assert cost.bytes_read == (3 * 4096 + 2 * (512 + 128 + 16)) * shape.token_bytes // 5


@pytest.mark.parametrize(("layer", "acts"), [(0, False), (2, False), (3, True)])
def test_the_first_layers_read_everything(glance_at: Callable[..., Any], layer: int, acts: bool) -> None:
    glance = glance_at(torch.randn(1, 2, 8, 8), torch.randn(1, 1, 1024, 8))
    glance = replace(glance, layer=replace(glance.layer, index=layer))
    assert (HiP(budget_tokens=64).select(glance) is not None) == acts


@pytest.mark.parametrize(("name", "value"), [("k_tokens", 0), ("stride", 0), ("local_tokens", -1), ("budget_tokens", 1)])
def test_what_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name):
        HiP(**{name: value})


def test_the_papers_blocks_are_the_defaults() -> None:
    """With 8 keys a block it begins with a quarter as many spans, and lost every needle that was measured."""
    part = HiP()
    assert (part.q_tokens, part.k_tokens, part.stride, part.dense_layers, part.default_budget_tokens) == (32, 2, 2, 3, 512)
