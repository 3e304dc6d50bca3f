"""ClusterKV: clusters of keys by direction, whole clusters until the budget, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import Recipe, parse
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches._kmeans import Clusters, kmeans
from baywindow.window.caches.clusterkv import ClusterKV
from baywindow.window.engine.parts import Parts

IDS = torch.randint(1, 97, (2, 60), generator=torch.Generator().manual_seed(4))
EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def asked(make_lookup: Callable[..., Any], cache: ClusterKV, keys: Any, query: Any, **options: Any) -> Any:
    """A lookup behind a prompt that was learned: the last key is the query's own."""
    lookup = make_lookup(keys, query, **options)
    cache.learn(lookup)
    return lookup


def test_worked_example(make_lookup: Callable[..., Any]) -> None:
    """Slot 0 is the sink. Slots 1, 3, 5 point east with lengths 1, 3, 2; slots 2, 4, 6 north. Two clusters of three; first centroids are
    the keys at ranks 1 and 4 of six, slots 2 and 5: cluster 0 is north with mean length 2, cluster 1 east with mean length 2. A query
    to the east reads the sink, cluster 1 whole, and itself (slot 7). With room for four, the north cluster is cut after slot 2."""
    keys = torch.tensor([[[[5.0, 5.0], EAST, [0.0, 2.0], [3.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0], NORTH]]])
    query = torch.tensor([[[EAST]]])
    options = {"sink_tokens": 1, "cluster_tokens": 3, "dense_layers": 0}
    cache = ClusterKV(budget_tokens=4, **options)
    lookup = asked(make_lookup, cache, keys, query)
    assert lookup.state["sizes"].tolist() == [[[3, 3]]]
    torch.testing.assert_close(lookup.state["centroids"], torch.tensor([[[[0.0, 2.0], [2.0, 0.0]]]]))
    assert cache.recall(lookup).tolist() == [[[0, 1, 3, 5, 7]]]
    wider = ClusterKV(budget_tokens=5, **options)
    assert wider.recall(lookup).tolist() == [[[0, 1, 3, 5, 2, 7]]]
    assert ClusterKV(budget_tokens=7, **options).recall(lookup) is None  # all six and the sink: everything


def test_later_tokens_are_clustered_among_themselves(make_lookup: Callable[..., Any]) -> None:
    """Prompt slots 0 to 3 (sink, east, north, east), then four later tokens: with m = 4 and C+ = 2 they become two clusters of their own,
    slots 4, 6 east and 5, 7 north; before that they are read whatever the query."""
    keys = torch.tensor([[[[1.0, 1.0], EAST, NORTH, EAST, EAST, NORTH, EAST, NORTH, EAST]]])
    cache = ClusterKV(budget_tokens=2, sink_tokens=1, cluster_tokens=1, dense_layers=0, update_tokens=4, update_clusters=2)
    lookup = make_lookup(keys[:, :, :5], torch.tensor([[[NORTH]]]))
    cache.learn(lookup)
    assert cache.recall(lookup).tolist() == [[[0, 2, 4]]]
    soon = make_lookup(keys[:, :, :8], torch.tensor([[[NORTH]]]), state=lookup.state)
    assert cache.recall(soon).tolist() == [[[0, 2, 4, 5, 6, 7]]]
    later = make_lookup(keys, torch.tensor([[[NORTH]]]), state=lookup.state)
    index = cache.recall(later)
    assert later.state["sizes"].shape[-1] == lookup.state["sizes"].shape[-1]  # the same state, extended in place
    assert later.state["members"].shape[-1] == 8
    assert index[0, 0, 0] == 0
    assert index[0, 0, 1] in (2, 5, 7)
    assert index[0, 0, 2:].tolist() == [8]


def slow(keys: Any, queries: Any, cache: ClusterKV, passes: int = 20) -> list[int]:
    """One head in plain numpy, from the paper: cluster by cosine, rank by q·c, whole clusters, cut the last. One query head."""
    past = len(keys) - 1
    sink = min(cache.sink_tokens, past)
    rest = list(range(sink, past))
    count = max(1, int(len(rest) / cache.cluster_tokens))
    centroids = [keys[rest[int((i + 0.5) * len(rest) / count)]] for i in range(count)]
    labels: list[int] = []
    for _ in range(passes):
        unit = [c / max(np.linalg.norm(c), 1e-12) for c in centroids]
        new = [int(np.argmax([keys[t] @ u for u in unit])) for t in rest]
        if new == labels:
            break
        labels = new
        for i in range(count):
            inside = [keys[t] for t, label in zip(rest, labels, strict=True) if label == i]
            centroids[i] = np.mean(inside, axis=0) if inside else centroids[i]
    filled = [i for i in range(count) if i in labels]
    chosen: list[int] = []
    for i in sorted(filled, key=lambda i: -float(queries @ centroids[i])):
        chosen += [t for t, label in zip(rest, labels, strict=True) if label == i]
    return [*range(sink), *chosen[: cache.budget_tokens - cache.sink_tokens], past]


@pytest.mark.parametrize("length", [24, 61, 130])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_a_loop_written_from_the_paper(make_lookup: Callable[..., Any], length: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(1, 2, length, 8, generator=generator)
    query = torch.randn(1, 2, 1, 8, generator=generator)
    cache = ClusterKV(budget_tokens=length // 2, sink_tokens=3, cluster_tokens=7, dense_layers=0)
    index = cache.recall(asked(make_lookup, cache, keys, query))
    for head in range(2):
        expected = slow(keys[0, head].numpy(), query[0, head, 0].numpy(), cache)
        assert index[0, head].tolist() == expected


def test_rows_of_a_padded_batch_are_clustered_as_they_are_alone(make_lookup: Callable[..., Any]) -> None:
    keys = torch.randn(2, 2, 41, 8, generator=torch.Generator().manual_seed(5))
    query = torch.randn(2, 4, 1, 8, generator=torch.Generator().manual_seed(6))
    positions = torch.arange(41).expand(2, -1).clone()
    positions[1] = torch.where(torch.arange(41) < 9, -1, torch.arange(41) - 9)
    cache = ClusterKV(budget_tokens=14, sink_tokens=3, cluster_tokens=5, dense_layers=0)
    both = cache.recall(asked(make_lookup, cache, keys, query, positions=positions))
    alone = cache.recall(asked(make_lookup, cache, keys[1:, :, 9:], query[1:]))
    assert (both[1] - 9).tolist() == alone[0].tolist()


def test_claim_clusters_recall_more_of_the_true_top_keys_than_pages_of_neighbours(make_lookup: Callable[..., Any]) -> None:
    """Tokens on eight topics take turns at random, so every page of 16 neighbours holds all topics. Share of the 64 keys with the largest
    product found at a budget of 128 of 512: clusters against pages ranked by their largest possible product (min/max bounds)."""
    generator = torch.Generator().manual_seed(7)
    topics = torch.randn(8, 32, generator=generator)
    keys = topics[torch.randint(0, 8, (512,), generator=generator)] + 0.5 * torch.randn(512, 32, generator=generator)
    found = {"clusters": 0.0, "pages": 0.0}
    for topic in range(8):
        query = topics[topic] + 0.3 * torch.randn(32, generator=generator)
        best = set((keys @ query).topk(64).indices.tolist())
        cache = ClusterKV(budget_tokens=128, sink_tokens=0, cluster_tokens=40, dense_layers=0)
        index = cache.recall(asked(make_lookup, cache, torch.cat([keys, query[None]])[None, None], query[None, None, None]))
        found["clusters"] += len(best & set(index[0, 0].tolist())) / 64 / 8
        pages = keys.view(32, 16, 32)
        bound = torch.maximum(pages.amax(dim=1) * query, pages.amin(dim=1) * query).sum(dim=-1)
        paged = {int(p) * 16 + i for p in bound.topk(8).indices for i in range(16)}
        found["pages"] += len(best & paged) / 64 / 8
    assert found["clusters"] > 0.9
    assert found["pages"] < 0.5


@pytest.mark.parametrize("seed", [0, 1])
def test_clusters_taken_in_an_order_fill_the_room(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    made = kmeans(torch.randn(1, 2, 30, 4, generator=generator), None, 6, 20)
    order = torch.stack([torch.randperm(5, generator=generator) for _ in range(2)])[None]
    taken = made.take(order, 40)
    for head in range(2):
        listed = []
        for c in order[0, head].tolist():
            start = int(made.starts[0, head, c])
            listed += made.members[0, head, start : start + int(made.sizes[0, head, c])].tolist()
        assert sorted(listed) == list(range(30))
        assert taken[0, head].tolist() == listed + [-1] * 10
    behind = made.behind(made)
    assert behind.members.shape[-1] == 60
    assert Clusters.of(behind.state()).starts[0, 0, 5] == 30


@torch.no_grad()
def test_in_a_model_it_reads_its_budget_and_keeps_everything(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    read: list[int] = []

    class Spy(ClusterKV):
        def recall(self, asked: Any) -> Any:
            index = super().recall(asked)
            read.append(-1 if index is None else index.shape[-1])
            return index

    with attach(model, Recipe((Spy(budget_tokens=20, sink_tokens=4, cluster_tokens=6, dense_layers=1),))) as w:
        cache = w.prefill(IDS)
        model(IDS[:, :1], past_key_values=cache)
        model(IDS[:, 1:2], past_key_values=cache)
        assert {int(n) for h in cache.held() for n in h.flatten()} == {62}
    assert read == [-1, 21, 21, -1, 22, 22]  # the first layer is dense; the budget, and the tokens that came since


def test_cost_counts_what_is_read() -> None:
    shape = Shape(layers=4, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=800, generated_tokens=3, element_bytes=2)
    cost = ClusterKV(budget_tokens=100).cost(shape)
    token = 2 * 2 * 8 * 2  # keys and values, heads, dimension, bytes: one layer
    centroids = 2 * 2 * 10 * 8 * 4  # acting layers, heads, clusters, dimension, float32
    assert cost.bytes_read == 2 * 800 * token + 2 * 100 * token + centroids
    assert cost.flops == 2 * 2 * 2 * 20 * 10 * 800 * 8 + 2 * 2 * 4 * 10 * 8 * 3


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget_tokens"):
        ClusterKV(budget_tokens=15)
    with pytest.raises(ConfigError, match="cluster_tokens"):
        ClusterKV(cluster_tokens=0)
    with pytest.raises(ConfigError, match="sink_tokens"):
        ClusterKV(sink_tokens=-1)
    with pytest.raises(RecipeError, match="at every step"):
        Parts.of(parse("clusterkv + streaming_llm"))
    with pytest.raises(RecipeError, match="recall"):
        Parts.of(parse("clusterkv + squeezed_attention"))
    assert replace(ClusterKV(), budget_tokens=16).budget_tokens == 16
