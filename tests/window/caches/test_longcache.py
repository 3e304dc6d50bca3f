"""LongCache: first tokens, last tokens, and spans found without positions, numbered as one short text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import Recipe, parse
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.longcache import LongCache
from baywindow.window.engine.parts import Parts

SMALL = {"global_tokens": 2, "local_tokens": 3, "top_tokens": 1, "recall_tokens": 1, "span_tokens": 3}


def test_worked_example(make_lookup: Callable[..., Any]) -> None:
    """Twelve keys; two first tokens, three last ones, the query's own among them: the middle is slots 2 to 8. Two query heads name slots 5
    and 5: one vote winner, widened to the span 4 to 6. A winner at slot 2 is widened within the middle only: 2 and 3."""
    keys = torch.zeros(1, 1, 12, 2)
    keys[0, 0, 5] = torch.tensor([3.0, 0.0])
    keys[0, 0, 0] = torch.tensor([9.0, 0.0])  # a first token is not up for choice
    query = torch.tensor([[[[1.0, 0.0]], [[0.5, 0.1]]]])
    assert LongCache(**SMALL).recall(make_lookup(keys, query)).tolist() == [[[0, 1, 4, 5, 6, 9, 10, 11]]]
    keys[0, 0, 2] = torch.tensor([4.0, 0.0])
    assert LongCache(**SMALL).recall(make_lookup(keys, query)).tolist() == [[[0, 1, 2, 3, 9, 10, 11]]]
    assert LongCache(**{**SMALL, "local_tokens": 10}).recall(make_lookup(keys, query)) is None


def slow(keys: Any, queries: Any, cache: LongCache) -> list[int]:
    """From the paper, in loops: every query of every head votes for its best, the most voted stay, each with its span."""
    H, L, _ = keys.shape
    group, n = queries.shape[0] // H, queries.shape[1]
    middle = range(cache.global_tokens, L - max(cache.local_tokens, n))
    votes: Counter[int] = Counter()
    for head in range(queries.shape[0]):
        for t in range(n):
            ranked = sorted(middle, key=lambda s: -float(queries[head, t] @ keys[head // group, s]))
            votes.update(ranked[: cache.top_tokens])
    winners = sorted(votes, key=lambda s: (-votes[s], s))[: cache.recall_tokens]
    before = (cache.span_tokens - 1) // 2
    chosen = {s + d for s in winners for d in range(-before, cache.span_tokens - before)} & set(middle)
    return [*range(cache.global_tokens), *sorted(chosen), *range(L - max(cache.local_tokens, n), L)]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("length", "n"), [(40, 1), (60, 9), (90, 70)])
def test_against_a_loop_written_from_the_paper(make_lookup: Callable[..., Any], seed: int, length: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys, queries = torch.randn(1, 2, length, 8, generator=generator), torch.randn(1, 4, n, 8, generator=generator)
    cache = LongCache(global_tokens=3, local_tokens=10, top_tokens=2, recall_tokens=3, span_tokens=4)
    assert cache.recall(make_lookup(keys, queries))[0, 0].tolist() == slow(keys[0], queries[0], cache)


def test_rows_of_a_padded_batch_choose_what_they_choose_alone(make_lookup: Callable[..., Any]) -> None:
    keys = torch.randn(2, 2, 50, 8, generator=torch.Generator().manual_seed(5))
    queries = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(6))
    positions = torch.arange(50).expand(2, -1).clone()
    positions[1] = torch.where(torch.arange(50) < 8, -1, torch.arange(50) - 8)
    cache = LongCache(global_tokens=3, local_tokens=10, top_tokens=2, recall_tokens=3, span_tokens=4)
    both = cache.recall(make_lookup(keys, queries, positions=positions))
    alone = cache.recall(make_lookup(keys[1:, :, 8:], queries[1:]))
    assert [n - 8 for n in both[1, 0].tolist() if n >= 0] == alone[0, 0].tolist()


@torch.no_grad()
def test_a_short_text_is_read_as_stock_reads_it(tiny: Callable[..., Any]) -> None:
    model, ids = tiny("llama"), torch.randint(1, 97, (1, 40), generator=torch.Generator().manual_seed(1))
    stock = model(ids).logits
    with attach(model, "longcache") as w:
        torch.testing.assert_close(model(ids, past_key_values=w.cache()).logits, stock, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_positions_never_exceed_what_is_attended_to(tiny: Callable[..., Any]) -> None:
    """150 tokens through a model trained for 64: every angle asked for is below first + spans + last tokens, whether the prompt comes
    whole or in pieces, and so are the lookups and the answers."""
    model, ids = tiny("llama"), torch.randint(1, 97, (1, 160), generator=torch.Generator().manual_seed(1))
    cache_of = LongCache(global_tokens=2, local_tokens=16, top_tokens=1, recall_tokens=2, span_tokens=4, chunk_tokens=8)
    largest: list[int] = []
    with attach(model, Recipe((cache_of,))) as w:
        turner = w.turners[""]
        inner = turner.turn
        turner.turn = lambda x, at, *a, **k: largest.append(int(at.max())) or inner(x, at, *a, **k)  # type: ignore[method-assign,func-returns-value]
        whole, pieces = w.cache(), w.cache()
        model(ids, past_key_values=whole)
        w.prefill(ids, pieces, chunk_tokens=24)
        one, two = (model(ids[:, :1], past_key_values=c).logits for c in (whole, pieces))
    assert max(largest) < 2 + 2 * 4 + 16
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_claim_a_needle_is_found_without_positions_where_sink_and_window_cannot(make_lookup: Callable[..., Any]) -> None:
    """A key among 4,000 that answers the query: LongCache attends to 32 + 96·32 + 64 tokens at most, and to that one; the same first and
    last tokens alone do not have it."""
    generator = torch.Generator().manual_seed(2)
    keys = torch.randn(1, 1, 4000, 16, generator=generator)
    query = torch.randn(1, 1, 1, 16, generator=generator)
    keys[0, 0, 1234] = 3 * query[0, 0, 0]
    index = LongCache(local_tokens=64).recall(make_lookup(keys, query))[0, 0].tolist()
    assert 1234 in index
    assert len(index) <= 32 + 4 * 32 + 64  # one query names four tokens
    assert 1234 not in [*range(32), *range(4000 - 64, 4000)]


def test_reach_and_cost() -> None:
    assert LongCache().reach(4096) > 10**6
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=10000, generated_tokens=2, element_bytes=2)
    cost = LongCache(local_tokens=1000, recall_tokens=10, span_tokens=8).cost(shape)
    assert cost.bytes_read == (32 + 80 + 1000) * shape.token_bytes + 10000 * shape.token_bytes // 2  # what is attended to, and all keys
    assert cost.flops == 2 * 2 * 4 * 8 * (10000**2 // 2 + 2 * 10000)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="span_tokens"):
        LongCache(span_tokens=0)
    with pytest.raises(RecipeError, match="equally many"):
        Parts.of(parse("longcache + ada_kv + snapkv"))
