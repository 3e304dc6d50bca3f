"""DHSA: where text is cut, what chunks score, and which tokens fit the budget."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.patterns.dhsa import DHSA, best_chunks, boundaries, pooled_keys, pooled_queries

IDS = torch.randint(1, 97, (1, 60), generator=torch.Generator().manual_seed(51))


def test_worked_example() -> None:
    """Chunks 0–2, 3–4, 5–7 score 1, 3, 2 for a query block that sees tokens 0 to 5; four tokens are 3, 4, 5 and the first."""
    chosen = best_chunks(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([0, 3, 5]), torch.tensor([6]), 4, 8)
    assert chosen.long().tolist() == [[1, 0, 0, 1, 1, 1, 0, 0]]
    keys = torch.tensor([[2.0, 0], [4, 0], [0, 3], [0, 3], [0, 3], [0, 3]])
    # means (3, 0) and (0, 3), times the roots of 2 and 4
    torch.testing.assert_close(pooled_keys(keys, torch.tensor([0, 2])), torch.tensor([[3 * 2**0.5, 0], [0, 6.0]]))


def test_text_is_cut_where_its_keys_change() -> None:
    torch.manual_seed(0)
    topics = torch.randn(4, 16)
    keys = torch.cat([topics[i] + 0.2 * torch.randn(size, 16) for i, size in enumerate((30, 14, 41, 20))])[None]
    cuts = boundaries(keys, 4, 8).tolist()
    assert {0, 30, 44, 85} <= set(cuts)
    assert min(np.diff(cuts)) > 8 or cuts[1] - cuts[0] <= 8  # cuts keep apart; the text's start is none of them


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("edge", "apart"), [(4, 8), (2, 3), (1, 1)])
def test_boundaries_against_a_loop(seed: int, edge: int, apart: int) -> None:
    torch.manual_seed(seed)
    keys = torch.randn(2, 50, 5)
    flat = keys.permute(1, 0, 2).reshape(50, 10).double().numpy()
    shift = {}
    for t in range(1, 50):
        a, b = flat[max(0, t - edge) : t].mean(axis=0), flat[t : t + edge].mean(axis=0)
        shift[t] = 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    mean = sum(shift.values()) / len(shift)
    want = [t for t, s in shift.items() if s > mean and all(s >= shift[u] for u in shift if abs(u - t) <= apart)]
    assert boundaries(keys, edge, apart).tolist() == [0, *want]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_choice_against_a_loop(glance_at: Callable[..., Any], seed: int) -> None:
    torch.manual_seed(seed)
    q, k = torch.randn(1, 4, 30, 8), torch.randn(1, 2, 70, 8)
    part = DHSA(budget_tokens=20, local_tokens=6, q_tokens=8, apart_tokens=3)
    chosen = part.select(glance_at(q, k))
    assert chosen is not None
    cuts = [*boundaries(k[0], 4, 3).tolist(), 70]
    for i in range(4):
        start, end = 40 + 8 * i, 40 + 8 * i - 6
        block = q[0, :, 8 * i : min(30, 8 * i + 8)].mean(dim=0)
        query = block.mean(dim=0) * len(block) ** 0.5
        scored = []
        for a, b in itertools.pairwise(cuts):
            key = k[0, :, a:b].mean(dim=(0, 1)) * (b - a) ** 0.5
            scored.append((-float(query @ key), a, b))
        want = [t for _, a, b in sorted(scored) for t in range(a, min(b, end))][:20]
        assert chosen.before(i, start)[0, 0].nonzero().flatten().tolist() == sorted({*want, *range(end, start)})


def test_claim_chunks_that_follow_the_text_catch_more_attention_than_fixed_blocks() -> None:
    """Passages of 5 to 40 tokens about one thing each, queries about one of them: how much of their attention 40 tokens catch."""
    draw = torch.Generator().manual_seed(7)
    caught = {"chunks": 0.0, "blocks": 0.0}
    for _ in range(20):
        sizes = torch.randint(5, 40, (24,), generator=draw).tolist()
        topics = 3 * torch.randn(24, 16, generator=draw)
        keys = torch.cat([topics[i] + torch.randn(size, 16, generator=draw) for i, size in enumerate(sizes)])
        queries = topics[int(torch.randint(24, (1,), generator=draw))] + torch.randn(8, 16, generator=draw)
        weights = torch.softmax(queries @ keys.T / 16, dim=-1).mean(dim=0)
        query, length = pooled_queries(queries[None], 8)[0], len(keys)
        text = boundaries(keys[None], 4, 4)
        grid = torch.arange(0, length, length // len(text))
        plain = torch.stack([block.mean(dim=0) for block in keys.tensor_split(grid[1:].tolist())])
        for name, firsts, pooled in (("chunks", text, pooled_keys(keys, text)), ("blocks", grid, plain)):
            read = best_chunks(query @ pooled.T, firsts, torch.tensor([length]), 40, length)[0]
            assert int(read.sum()) == 40
            caught[name] += float(weights[read].sum())
    assert caught["chunks"] > 1.05 * caught["blocks"]


@torch.no_grad()
def test_a_budget_of_everything_is_the_stock_model(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    stock = model(IDS).logits
    with attach(model, "dhsa(budget_tokens=60)") as w:
        torch.testing.assert_close(model(IDS, past_key_values=w.cache()).logits, stock, atol=1e-4, rtol=1e-4)
    with attach(model, "dhsa(budget_tokens=8, local_tokens=4, q_tokens=8)") as w:
        cache = w.cache()
        assert not torch.allclose(model(IDS, past_key_values=cache).logits, stock, atol=1e-3)
        assert cache.pairs[0] < 0.75 * cache.pairs[1]


def test_cost() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=1024)
    # 16 query blocks × 64 chunks, and both edges of 4 tokens over 1,024 places in 2 heads: 2 · channels · layers · products
    assert DHSA().cost(shape).flops == 2 * 8 * 2 * (16 * 64 + 2 * 1024 * 4 * 2)


@pytest.mark.parametrize(("name", "value"), [("q_tokens", 0), ("edge_tokens", 0), ("apart_tokens", 0), ("local_tokens", -1)])
def test_what_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name):
        DHSA(**{name: value})
