"""LServe: what a streaming head reads, which pages the others look up, and how heads are told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from baywindow import recipe
from baywindow.errors import CapabilityError, ConfigError, RecipeError, SourceError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.block import Block
from baywindow.window.engine.prepare import prepare
from baywindow.window.patterns.lserve import LServe, lowest, page_scores, part_bounds
from baywindow.window.recall import Lookup

IDS = torch.randint(1, 97, (2, 60), generator=torch.Generator().manual_seed(6))
KIVI = "kivi(group_tokens=4, residual_tokens=8) + "
SMALL: dict[str, Any] = {
    "sink_tokens": 2, "prefill_local_tokens": 8, "local_tokens": 6, "budget_tokens": 12, "page_tokens": 4, "parts": 2, "reuse_steps": 3,
}  # fmt: skip


def lookup(keys: Any, query: Any, state: dict[str, Any], *, info: Any, layer: Any, front: int = 0) -> Lookup:
    """The last token asks; ``front`` slots of padding stand before the first."""
    length = keys.shape[2]
    positions = torch.arange(length)[None] - front
    positions = positions.masked_fill(positions < 0, -1)
    block = Block(keys=keys, values=keys, positions=positions)
    return Lookup(
        info=info, layer=layer, block=block, past=length - 1, holes=front > 0, keys=lambda a, b: keys[:, :, a:b], turn=lambda q, at: q,
        watched=lambda: (query, positions), state=state, phase="decode", queries=query, q_pos=positions[:, -1:], turned=lambda: query,
    )  # fmt: skip


def test_worked_example() -> None:
    """Two channels, two parts of two keys: (1, −1), (2, 3) and (0, 0), (−4, 1). Query (1, −1): in the first part at most 2 + 1 = 3, in the
    second 0 − 0 = 0. Query (−1, 1) at most −1 + 3 = 2 and 4 + 1 = 5. The page of both parts is worth 3 and 5."""
    low, high = torch.tensor([[1.0, -1.0], [-4.0, 0.0]]), torch.tensor([[2.0, 3.0], [0.0, 1.0]])
    for query, want in (([1.0, -1.0], [3.0, 0.0]), ([-1.0, 1.0], [2.0, 5.0])):
        bounds = part_bounds(torch.tensor(query).view(1, 1, 1, 2), low[None, None], high[None, None])
        assert bounds.flatten().tolist() == want
        assert page_scores(bounds, 2).flatten().tolist() == [max(want)]


def test_the_lowest_gates_stream(layer_of: Any, info_of: Any) -> None:
    layer = layer_of(heads=4, kv=2)
    assert lowest(info_of(layer), np.array([[0.3, 0.1]], dtype=np.float32), 0.5) == (1,)
    part, info = LServe(streaming_fraction=0.5), info_of(layer, arrays={"lserve": {"gates": np.array([[0.3, 0.1]], dtype=np.float32)}})
    assert part.streaming(info, layer).tolist() == [False, True]
    assert LServe(streaming_heads=(0,)).streaming(info, layer).tolist() == [True, False]


def pages_by_hand(keys: Any, query: Any, length: int, part: LServe) -> list[int]:
    """Tokens that a looking-up head [L, D] reads at ``length``, from the paper: bounds part by part, pages by their best part."""
    P, S = part.page_tokens, part.page_tokens // part.parts
    newest, scores = (length - 1) // P, {}
    for page in range(newest):
        bounds = []
        for s in range(page * P, (page + 1) * P, S):
            chunk = keys[s : s + S]
            bounds.append(
                max(sum(max(float(q[d] * chunk[:, d].max()), float(q[d] * chunk[:, d].min())) for d in range(len(q))) for q in query)
            )
        scores[page] = max(bounds)
    count = max(3, part.budget_tokens // P) - 1
    best = sorted(scores, key=lambda page: -scores[page])[:count]
    return sorted(t for page in best for t in range(page * P, (page + 1) * P)) + list(range(newest * P, length))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("front", [0, 3])
def test_pages_against_a_loop_written_from_the_paper(layer_of: Any, info_of: Any, seed: int, front: int) -> None:
    """Token by token: a choice is made where the number of tokens divides by three, and serves until the next."""
    layer = layer_of(heads=4, kv=2)
    info, part = info_of(layer), LServe(**SMALL, streaming_heads=(1,))
    draw = torch.Generator().manual_seed(seed)
    keys = torch.randn(1, 2, 40 + front, 8, generator=draw)
    state: dict[str, Any] = {}
    part.learn(lookup(keys[:, :, : 17 + front], keys[:, :1, :1], state, info=info, layer=layer, front=front))
    chosen: list[int] = []
    for length in range(18, 41):
        query = torch.randn(1, 4, 1, 8, generator=draw)
        asked = lookup(keys[:, :, : length + front], query, state, info=info, layer=layer, front=front)
        index = part.recall(asked)
        assert index is not None
        read = [sorted(int(s) - front for s in head if s >= 0) for head in index[0]]
        if length % 3 == 0 or not chosen:
            chosen = pages_by_hand(keys[0, 0, front:], query[0, :2, 0], length, part)
        assert read[0] == sorted(chosen + list(range(chosen[-1] + 1, length)))
        window = max(2, (length - 6) // 4 * 4)
        assert read[1] == [0, 1, *range(window, length)]


@torch.no_grad()
def test_where_pages_cover_everything_it_is_the_stock_model(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    expected = model(torch.cat([IDS, IDS[:, :4]], dim=1)).logits[:, 59:]
    for made in (LServe(streaming_heads=()), LServe(streaming_heads=tuple(range(6)), local_tokens=128)):
        with attach(model, Recipe((made,))) as w:
            cache = w.cache()
            got = [model(IDS, past_key_values=cache).logits[:, -1:]]
            got += [model(IDS[:, i : i + 1], past_key_values=cache).logits for i in range(4)]
        torch.testing.assert_close(torch.cat(got, dim=1), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_streaming_heads_of_a_prompt_see_first_tokens_and_a_window(tiny: Callable[..., Any]) -> None:
    """The first layer by hand: key/value head 1 streams (pages of four, first tokens 2, window 8), head 0 sees everything."""
    model, ids = tiny("llama"), IDS[:1]
    attention, outputs = model.model.layers[0].self_attn, []
    hook = attention.register_forward_hook(lambda m, a, k, out: outputs.append(out[0]), with_kwargs=True)
    try:
        with attach(model, Recipe((LServe(**SMALL, streaming_heads=(1,)),))) as w:
            w.prefill(ids)
    finally:
        hook.remove()
    x = model.model.layers[0].input_layernorm(model.model.embed_tokens(ids))
    q, k, v = (proj(x).view(1, 60, -1, 16).transpose(1, 2) for proj in (attention.q_proj, attention.k_proj, attention.v_proj))
    cos, sin = (t[:, None] for t in model.model.rotary_emb(x, torch.arange(60)[None]))
    q, k = (t * cos + torch.cat([-t[..., 8:], t[..., :8]], dim=-1) * sin for t in (q, k))
    i, j = torch.arange(60)[:, None], torch.arange(60)[None]
    near = (j // 4 * 4 < 2) | (j // 4 >= i // 4 - 2)
    mask = torch.stack([j <= i, j <= i, (j <= i) & near, (j <= i) & near])
    want = torch.softmax((q @ k.repeat_interleave(2, dim=1).transpose(2, 3) / 4).masked_fill(~mask, -torch.inf), dim=-1)
    want = attention.o_proj((want @ v.repeat_interleave(2, dim=1)).transpose(1, 2).flatten(2))
    torch.testing.assert_close(outputs[-1], want, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("other", ["", "snapkv(budget_tokens=30, window_tokens=4) + ", "yarn + ", KIVI])
def test_a_row_gets_in_a_batch_what_it_gets_alone(tiny: Callable[..., Any], other: str) -> None:
    """Padded too, but where packing leaves holes between pages."""
    model, pad = tiny("llama"), 0 if "kivi" in other else 17
    mask = torch.ones_like(IDS)
    mask[1, :pad] = 0
    made = recipe.parse(other + str(Recipe((LServe(**SMALL, streaming_heads=(1, 2)),))))
    options = {"max_new_tokens": 7, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with attach(model, made) as w:
        both = model.generate(IDS * mask, attention_mask=mask, past_key_values=w.cache(), **options)
        alone = model.generate(IDS[1:, pad:], past_key_values=w.cache(), **options)
    torch.testing.assert_close(torch.stack(both.logits)[:, 1:], torch.stack(alone.logits), atol=1e-4, rtol=1e-4)


def test_claim_bounds_of_parts_find_more_needles_than_bounds_of_pages(layer_of: Any, info_of: Any) -> None:
    """One key that matches the query stands in noise with now and then a large channel. Bounds over few keys are tighter."""
    layer = layer_of(heads=1, kv=1, dim=32)
    info, draw, found = info_of(layer), torch.Generator().manual_seed(0), {1: 0, 4: 0}
    for _ in range(60):
        keys = torch.randn(1, 1, 1024, 32, generator=draw)
        query = torch.randn(1, 1, 1, 32, generator=draw)
        at = int(torch.randint(0, 900, (), generator=draw))
        keys[0, 0, at] = 1.2 * query[0, 0, 0]
        for parts in found:
            part, state = LServe(budget_tokens=192, parts=parts, streaming_heads=()), {}
            part.learn(lookup(keys, query, state, info=info, layer=layer))
            index = part.recall(lookup(keys, query, state, info=info, layer=layer))
            found[parts] += int(at in index.flatten().tolist())  # type: ignore[union-attr]
    assert found[4] > 1.2 * found[1]


@pytest.mark.usefixtures("own_cache")
def test_prepare_finds_the_head_that_matters_and_goes_on_where_it_was(tiny: Callable[..., Any], monkeypatch: Any) -> None:
    model = tiny("llama")
    part = LServe(**SMALL, streaming_fraction=0.5, sample_tokens=64, samples=1)
    with pytest.raises(CapabilityError, match="lserve"):
        attach(model, Recipe((part,)))
    ids = torch.randint(1, 97, (1, 80), generator=torch.Generator().manual_seed(1))
    with pytest.raises(SourceError, match="calibration text"):
        prepare(model, part, ids[:, :50])
    prepare(model, part, ids)
    with attach(model, Recipe((part,))) as w:
        gates = w.info.arrays["lserve"]["gates"]
        streams = [part.streaming(w.info, layer) for layer in w.info.layers]
    assert gates.shape == (3, 2)
    assert np.isfinite(gates).all()
    assert int(torch.stack(streams).sum()) == 3
    kept, dropped = gates[~torch.stack(streams).numpy()], gates[torch.stack(streams).numpy()]
    assert kept.min() >= dropped.max()


@pytest.fixture
def own_cache(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))


def test_what_is_refused() -> None:
    for name in ("prefill_local_tokens", "local_tokens", "budget_tokens", "page_tokens", "parts", "reuse_steps", "samples"):
        with pytest.raises(ConfigError, match=name):
            LServe(**{name: 0})
    for bad in ({"streaming_fraction": 1.5}, {"sink_tokens": -1}, {"parts": 3}, {"sample_tokens": 10}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            LServe(**bad)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="bounds keys at the angles"):
        recipe.parse("lserve + rerope")
    assert recipe.parse("lserve + yarn")


def test_cost_is_what_heads_of_both_kinds_read() -> None:
    """Half of the heads read 2 + 6 tokens of a hundred, the others 12."""
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=16, prompt_tokens=100)
    assert LServe(**SMALL).cost(shape).bytes_read == (8 + 12) * shape.token_bytes // 2
