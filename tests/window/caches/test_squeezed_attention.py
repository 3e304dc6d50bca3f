"""Squeezed Attention: a context is clustered once, one threshold for all layers and heads, one lookup a question."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.squeezed_attention import SqueezedAttention, threshold, weight_of_one
from baywindow.window.engine import saving
from baywindow.window.recall import marked_slots

IDS = torch.randint(1, 97, (2, 60), generator=torch.Generator().manual_seed(4))
ACTING = {"budget_tokens": 24, "window_tokens": 6, "cluster_fraction": 0.2, "coarse_fraction": 0.05}
LN4 = float(np.log(4.0))


def learned(make_lookup: Callable[..., Any], cache: SqueezedAttention, keys: Any, queries: Any, watched: Any, **options: Any) -> Any:
    lookup = make_lookup(keys, queries, watched=watched, **options)
    cache.learn(lookup)
    cache.conclude([lookup.state])
    return lookup


def test_worked_example(make_lookup: Callable[..., Any]) -> None:
    """Keys 0 and 3 point up, keys 1 and 2 east with length ln 4; key 4 is the window, key 5 the query's own. Two clusters, begun with the
    keys at ranks 1 and 3 of four: {1, 2} and {0, 3}. A query (1, 0) gives exp(q·c) of 4 and 1, so one key weighs 4 / (2·4 + 2·1) = 0.4 or
    0.1. The window's query is the same: with a budget of 3, window 1, two of four keys may pass: the threshold is 0.4, and slots 1 and
    2 are read, the window and itself. The opposite query gives 1/4 and 1: 0.1 and 0.4."""
    up, east, zero = [0.0, 1.0], [LN4, 0.0], [0.0, 0.0]
    keys = torch.tensor([[[up, east, east, up, zero, zero]]])
    query = torch.tensor([[[[1.0, 0.0]]]])
    cache = SqueezedAttention(budget_tokens=3, window_tokens=1, cluster_fraction=0.5)
    lookup = learned(make_lookup, cache, keys, query, query)
    assert lookup.state["sizes"].tolist() == [[[2, 2]]]
    torch.testing.assert_close(lookup.state["seen"], torch.tensor([[[0.4, 0.1]]]))
    torch.testing.assert_close(lookup.state["threshold"], torch.tensor([0.4]))
    assert marked_slots(cache.recall(lookup)).tolist() == [[[1, 2, 4, 5]]]
    away = make_lookup(keys, -query, state=lookup.state)
    assert marked_slots(cache.recall(away)).tolist() == [[[0, 3, 4, 5]]]
    both = make_lookup(torch.cat([keys, keys[:, :, -1:]], dim=2), torch.cat([query, -query], dim=2), state=lookup.state)
    assert marked_slots(cache.recall(both)).tolist() == [[[4, 5, 6]]]  # a question's tokens average to 0.25 and 0.25: neither


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_against_a_loop_written_from_the_paper(seed: int) -> None:
    """Score of a cluster: mean over tokens and query heads of exp(q·c·s) / Σ_j N_j exp(q·c_j·s)."""
    draw = np.random.default_rng(seed)
    q, c = draw.normal(size=(1, 4, 3, 8)), draw.normal(size=(1, 2, 5, 8))
    sizes = draw.integers(0, 4, size=(1, 2, 5))
    sizes[..., 0] = 2
    ours = weight_of_one(torch.tensor(q), torch.tensor([[4, 5, -1]]), torch.tensor(c).float(), torch.tensor(sizes), 0.3)
    for head in range(2):
        for i in range(5):
            total = 0.0
            for query_head in (2 * head, 2 * head + 1):
                for t in (0, 1):  # the third is padding
                    e = np.exp(0.3 * (c[0, head] @ q[0, query_head, t]))
                    total += e[i] / (sizes[0, head] @ e) / 4
            assert float(ours[0, head, i]) == pytest.approx(total if sizes[0, head, i] else 0.0, abs=1e-5)


def test_one_threshold_gives_heads_shares_of_their_own() -> None:
    """Layer 1: scores 5, 4 with 2 keys each; layer 2: scores 3, 1 with 3 and 1 keys. Half of 8 keys: the clusters with 5 and 4 fill it, so
    the threshold is 4 and layer 2 reads nothing. With 0.9: 7.2 keys hold 5, 4 and 3. With 0.1 no cluster fits."""
    scores = [torch.tensor([[[5.0, 4.0]]]), torch.tensor([[[3.0, 1.0]]])]
    sizes = [torch.tensor([[[2, 2]]]), torch.tensor([[[3, 1]]])]
    for share, expected in ((0.5, 4.0), (0.9, 3.0), (1.0, 1.0), (0.1, float("inf"))):
        assert threshold(scores, sizes, torch.tensor([share])).tolist() == [expected]


def drawn(seed: int, length: int = 200) -> tuple[Any, Any, Any]:
    """Keys on topics, a window's queries and a question on one of them."""
    generator = torch.Generator().manual_seed(seed)
    topics = 2 * torch.randn(2, 10, 16, generator=generator)
    which = torch.randint(0, 10, (length,), generator=generator)
    keys = topics[:, which] + 0.3 * torch.randn(2, length, 16, generator=generator)
    watched = topics[:, torch.randint(0, 10, (8,), generator=generator)].repeat_interleave(2, dim=0) * 0.2
    question = topics[:, [3, 3]].repeat_interleave(2, dim=0) * 0.2
    return keys[None], watched[None], question[None]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_levels_read_what_one_reads_of_the_surviving_coarse_clusters(make_lookup: Callable[..., Any], seed: int) -> None:
    keys, watched, question = drawn(seed)
    options = {"budget_tokens": 70, "window_tokens": 8, "cluster_fraction": 0.1, "coarse_fraction": 0.03}
    one, two = SqueezedAttention(**options), SqueezedAttention(levels=2, coarse_keep=0.6, **options)
    all_pass = SqueezedAttention(levels=2, coarse_keep=1.0, **options)
    read = {}
    for name, cache in (("one", one), ("two", two), ("all", all_pass)):
        lookup = learned(make_lookup, cache, keys, question, watched)
        read[name] = [row.nonzero()[:, 0].tolist() for row in cache.recall(lookup)[0]]
    assert read["all"] == read["one"] or all(set(a) <= set(o) for a, o in zip(read["all"], read["one"], strict=True))
    for a, b in zip(read["two"], read["one"], strict=True):
        assert {198, 199} <= set(a)
        assert len(a) <= len(b) + 70  # fewer clusters compared: their denominators are smaller, so some may pass that did not
    topic = question[0, 0, 0]
    best = (keys[0, 0] @ topic).topk(10).indices.tolist()
    assert len(set(best) & set(read["two"][0])) == 10


def test_rows_of_a_padded_batch_read_what_they_read_alone(make_lookup: Callable[..., Any]) -> None:
    keys, watched, question = drawn(5, 90)
    keys, watched, question = keys.repeat(2, 1, 1, 1), watched.repeat(2, 1, 1, 1), question.repeat(2, 1, 1, 1)
    positions = torch.arange(90).expand(2, -1).clone()
    positions[1] = torch.where(torch.arange(90) < 20, -1, torch.arange(90) - 20)
    cache = SqueezedAttention(budget_fraction=0.5, window_tokens=8, cluster_fraction=0.1)
    both = cache.recall(learned(make_lookup, cache, keys, question, watched, positions=positions))
    alone = cache.recall(learned(make_lookup, cache, keys[1:, :, 20:], question[1:], watched[1:]))
    for head in range(2):
        assert both[1, head].nonzero()[:, 0].tolist() == [n + 20 for n in alone[0, head].nonzero()[:, 0].tolist()]


def test_claim_one_threshold_loses_less_than_the_same_share_in_every_head(make_lookup: Callable[..., Any]) -> None:
    """One head attends sharply to a few keys, the other evenly to many. Attention mass kept with a quarter of all keys, of the same
    clusters: one threshold for both heads against a threshold for each."""
    generator = torch.Generator().manual_seed(3)
    topics = torch.randn(20, 16, generator=generator)
    keys = topics[torch.randint(0, 20, (400,), generator=generator)] + 0.1 * torch.randn(400, 16, generator=generator)
    keys = torch.stack([3.0 * keys, 0.3 * keys])[None]  # the same keys, long in one head, short in the other
    watched = topics[:8].expand(2, -1, -1)[None]
    question = topics[2:3].expand(2, -1, -1)[None]
    true = torch.softmax((question @ keys.transpose(2, 3))[0, :, 0] * 0.25, dim=-1)
    cache = SqueezedAttention(budget_tokens=108, window_tokens=8, cluster_fraction=0.1)

    def mass(state: Any) -> float:
        return float(true[cache.recall(make_lookup(keys, question, state=state, scaling=0.25))[0]].sum())

    pooled = learned(make_lookup, cache, keys, question, watched, scaling=0.25).state
    apart = copy.deepcopy(pooled)
    each = torch.stack([threshold([pooled["seen"][:, h]], [pooled["sizes"][:, h]], pooled["share"]) for h in range(2)])
    weights = weight_of_one(question, torch.tensor([[0]]), pooled["centroids"], pooled["sizes"], 0.25)
    kept = weights[0] >= each
    uniform = 0.0
    for h in range(2):
        slots = [slot for slot, cluster in enumerate(apart["clusters"][0, h].tolist()) if kept[h, cluster]]
        uniform += float(true[h, [*slots, *range(391, 400)]].sum())
    assert mass(pooled) >= uniform - 1e-6


@torch.no_grad()
@pytest.mark.parametrize("levels", [1, 2])
def test_a_context_is_learned_once_saved_and_asked(tiny: Callable[..., Any], tmp_path: Path, levels: int) -> None:
    model = tiny("llama")
    read: list[int] = []

    class Spy(SqueezedAttention):
        def recall(self, asked: Any) -> Any:
            index = super().recall(asked)
            read.append(int(index.sum(dim=-1).float().mean()) if index is not None else -1)
            return index

    recipe = Recipe((Spy(levels=levels, **ACTING),))
    with attach(model, recipe) as w:
        cache = w.prefill(IDS[:, :50])
        assert all("threshold" in store.states["squeezed_attention"] for store in cache.stores)
        saving.save(cache, tmp_path / "context", {})
        again = saving.load(w, tmp_path / "context", saving.read_manifest(tmp_path / "context", {}))
        one, two = (model(IDS[:, 50:], past_key_values=c).logits for c in (copy.deepcopy(cache), again))
    torch.testing.assert_close(one, two)
    assert len(read) == 6  # one lookup a layer for all ten tokens of the question
    assert sum(read[:3]) / 3 <= 24 + 10 + 12  # the budget on average, what came since, and that questions differ from the window


@torch.no_grad()
def test_a_plain_forward_behind_a_plain_prompt_gets_the_same(tiny: Callable[..., Any]) -> None:
    """Nobody says that the prompt is over: all layers learn at the first step, the one that asks and those behind it."""
    model = tiny("llama")
    recipe = Recipe((SqueezedAttention(**ACTING),))
    with attach(model, recipe) as w:
        plain, driven = w.cache(), w.prefill(IDS[:, :50])
        model(IDS[:, :50], past_key_values=plain)
        for i in (50, 51):
            a, b = (model(IDS[:, i : i + 1], past_key_values=c).logits for c in (plain, driven))
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert plain.store(2).states["squeezed_attention"]["clusters"].shape[-1] == 44


def test_cost_counts_what_is_read() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=1000, generated_tokens=3, element_bytes=2)
    cost = SqueezedAttention(budget_fraction=0.3).cost(shape)
    assert cost.bytes_read == 300 * 2 * 2 * 2 * 8 * 2 + 4 * 2 * 2 * 50 * 8  # keys and values; 50 centroids in float32
    assert cost.flops == 2 * 4 * 20 * 50 * 1000 * 8 + 2 * 2 * 4 * 50 * 8 * 103


def test_what_is_refused() -> None:
    assert SqueezedAttention().budget_fraction == 0.1
    with pytest.raises(ConfigError, match="levels"):
        SqueezedAttention(levels=3)
    with pytest.raises(ConfigError, match="coarse_keep"):
        SqueezedAttention(coarse_keep=0.0)
    with pytest.raises(ConfigError, match="window_tokens"):
        SqueezedAttention(window_tokens=0)
