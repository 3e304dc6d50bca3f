"""APE: contexts read apart, overlapping behind one prefix, and weighed together by temperature and scale."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.ape_parallel import APEParallel
from baywindow.window.caches.kvzip import KVzip
from baywindow.window.caches.snapkv import SnapKV
from baywindow.window.engine.parts import Parts

DRAW = torch.Generator().manual_seed(51)
PREFIX, ONE, TWO, ASKED = (torch.randint(1, 97, (1, n), generator=DRAW) for n in (3, 12, 7, 5))
WHOLE, STARTS = torch.cat([PREFIX, ONE, TWO], dim=1), (3, 15)


def two_softmaxes(logits: Any, context: Any, values: Any, temperature: float, scale: float) -> Any:
    """The paper's way: attention among contexts and among the rest, each with its log-sum-exp, weighed against each other."""
    l_c = (logits[context] / temperature).logsumexp(0)
    l_o = logits[~context].logsumexp(0)
    o_c = (logits[context] / temperature).softmax(0) @ values[context]
    o_o = logits[~context].softmax(0) @ values[~context]
    share = torch.stack([scale * temperature * l_c, l_o]).softmax(0)
    return share[0] * o_c + share[1] * o_o


def test_worked_example() -> None:
    """One prefix key with logit 0, two context keys with logits 0 and 1, T = 0.5, S = 1: sharpened 0 and 2, L = ln(1 + e²) = 2.12693;
    the contexts' mass is exp(0.5 · 2.12693) = 2.89638 against 1: shares 0.74335 and 0.25665, of which the second key has
    e² / (1 + e²) = 0.88080: 0.65474 and 0.08861."""
    state = {"begin": torch.tensor([1]), "end": torch.tensor([3])}
    logits = torch.tensor([[[[0.0, 0.0, 1.0]]]])
    weights = APEParallel(temperature=0.5, scale=1.0).weigh(logits, torch.tensor([[[0, 1, 2]]]), state).softmax(-1)
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.25665, 0.08861, 0.65474]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("temperature", "scale"), [(0.9, 0.9), (0.3, 1.2), (1.0, 0.8), (1.7, 1.0)])
def test_one_softmax_is_the_papers_two(seed: int, temperature: float, scale: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits, values = torch.randn(1, 4, 2, 11, generator=draw) * 3, torch.randn(11, 5, generator=draw)
    k_pos = torch.tensor([[[0, 1, 2, 3, 4, 2, 3, 2, 5, 6, -1]]])
    logits = logits.masked_fill(k_pos[:, :, None] < 0, -torch.inf)
    state = {"begin": torch.tensor([2]), "end": torch.tensor([5])}
    out = APEParallel(temperature=temperature, scale=scale).weigh(logits, k_pos, state).softmax(-1) @ values
    context = (k_pos[0, 0] >= 2) & (k_pos[0, 0] < 5)
    for head in range(4):
        for row in range(2):
            expected = two_softmaxes(logits[0, head, row], context, values, temperature, scale)
            torch.testing.assert_close(out[0, head, row], expected, atol=1e-5, rtol=1e-5)


def test_where_contexts_are_cut() -> None:
    ape = APEParallel(context_tokens=10, prefix_tokens=2)
    assert ape.bounds(25, ()) == [2, 12, 22, 25]
    assert ape.bounds(25, (3, 15)) == [3, 13, 15, 25]
    assert ape.bounds(1, ()) == [1]
    assert APEParallel(prefix_tokens=0).bounds(5, ()) == [0, 5]
    for starts in ((3, 3), (-1, 2), (4, 25), (9, 4)):
        with pytest.raises(ConfigError, match="starts"):
            ape.bounds(25, starts)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3"])
@pytest.mark.parametrize("chunk", [4, 1000])
def test_each_context_is_what_the_stock_model_makes_of_prefix_and_context_alone(family: str, chunk: int, tiny: Callable[..., Any]) -> None:
    """Oracle: the stock model's own cache of two short prompts."""
    model = tiny(family)
    stock = [model(torch.cat([PREFIX, one], dim=1), use_cache=True).past_key_values for one in (ONE, TWO)]
    with attach(model, "ape_parallel") as w:
        cache = w.prefill(WHOLE, starts=STARTS, chunk_tokens=chunk)
        for layer in w.info.full_layers:
            block = cache.store(layer.index).view()
            assert block.positions.tolist() == [[*range(15), *range(3, 10)]]
            for name in ("keys", "values"):
                one, two = (getattr(s.layers[layer.index], name) for s in stock)
                expected = torch.cat([one, two[:, :, 3:]], dim=2)
                torch.testing.assert_close(getattr(block, name), expected, atol=2e-5, rtol=1e-4)
        assert cache.get_seq_length() == 15  # a question stands behind the longest context
        assert cache.row_tokens is not None
        assert cache.row_tokens.tolist() == [15]
        if family != "gemma3":
            assert w.report(cache).stock_nbytes == 22 * 3 * 2 * 2 * 16 * 4  # tokens read, not positions


@torch.no_grad()
def test_without_temperature_and_scale_a_question_attends_as_with_a_block_mask(tiny: Callable[..., Any]) -> None:
    """Oracle: the stock model over the whole sequence with a 4-D mask that hides contexts from each other, and their positions."""
    model = tiny("llama")
    ids = torch.cat([WHOLE, ASKED], dim=1)
    at = torch.tensor([[*range(15), *range(3, 10), *range(15, 20)]])
    part = torch.tensor([0] * 3 + [1] * 12 + [2] * 7 + [3] * 5)
    sees = (part[:, None] == part) | (part == 0) | (part[:, None] == 3)
    mask = torch.where(sees & torch.ones(27, 27).tril().bool(), 0.0, torch.finfo(torch.float32).min)[None, None]
    expected = model(ids, attention_mask=mask, position_ids=at).logits[:, -5:]
    with attach(model, "ape_parallel(temperature=1, scale=1)") as w:
        cache = w.prefill(WHOLE, starts=STARTS)
        got = model(ASKED, past_key_values=cache).logits
        torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)
        two = copy.deepcopy(w.prefill(WHOLE, starts=STARTS))
        out = model.generate(ASKED, attention_mask=torch.ones(1, 20), past_key_values=two, max_new_tokens=3, do_sample=False)
    assert out[0, 5] == expected[0, -1].argmax()


@torch.no_grad()
def test_a_question_is_weighed_by_temperature_and_scale_in_every_layer(tiny: Callable[..., Any]) -> None:
    """Oracle for layer 0, whose inputs no earlier layer has changed: two softmaxes by hand over its rotated queries and keys."""
    model = tiny("llama")
    outs: dict[int, Any] = {}
    hook = model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda m, a: outs.__setitem__(0, a[0]))
    with attach(model, "ape_parallel(temperature=0.5, scale=0.8)") as w:
        cache = w.prefill(WHOLE, starts=STARTS)
        queries: list[Any] = []
        w.observer = lambda layer, *qkv: queries.append(qkv[0]) if layer.index == 0 else None
        model(ASKED[:, :1], past_key_values=cache)
        turner = w.turner(w.info.layers[0])
        assert turner is not None
        q, block = turner.turn(queries[0], torch.tensor([[15]])), cache.store(0).view()
    hook.remove()
    context = (block.positions[0] >= 3) & (block.positions[0] < 15)
    for head in range(4):
        logits = (block.keys[0, head // 2] @ q[0, head, 0]) / 4.0
        expected = two_softmaxes(logits, context, block.values[0, head // 2], 0.5, 0.8)
        torch.testing.assert_close(outs[0][0, 0, 16 * head : 16 * head + 16], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("recipe", ["ape_parallel", "ape_parallel + kivi(bits=8, group_tokens=8)", "self_extend + ape_parallel"])
def test_a_padded_row_gets_what_it_gets_alone(recipe: str, tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    both = torch.cat([WHOLE, WHOLE])
    mask = torch.ones_like(both)
    mask[1, :1], both[1, 0] = 0, 0  # the second row's prefix is one token shorter
    with attach(model, recipe) as w:
        pair, alone = w.prefill(both, mask=mask, starts=STARTS), w.prefill(WHOLE[:, 1:], starts=(2, 14))
        a, b = pair.store(1).view(), alone.store(1).view()
        held = a.head_positions[1, 0] >= 0
        assert sorted(a.head_positions[1, 0][held].tolist()) == sorted(b.head_positions[0, 0].tolist())
        step = torch.cat([ASKED[:, :1]] * 2)
        past = torch.ones(2, pair.get_seq_length() + 1)
        assert pair.row_tokens is not None
        one = model(step, attention_mask=past, position_ids=pair.row_tokens[:, None], past_key_values=pair).logits
        two = model(step[:1], past_key_values=alone).logits
    torch.testing.assert_close(one[1:], two, atol=2e-3 if "kivi" in recipe else 3e-4, rtol=1e-3)


@torch.no_grad()
def test_one_context_and_no_correction_is_reading_in_order(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "ape_parallel(temperature=1, scale=1)") as w:
        ours = model(ASKED, past_key_values=w.prefill(WHOLE)).logits
    with attach(model) as w:
        stock = model(ASKED, past_key_values=w.prefill(WHOLE)).logits
    torch.testing.assert_close(ours, stock, atol=2e-5, rtol=1e-4)


def test_claim_a_temperature_sharpens_what_many_contexts_have_spread() -> None:
    """Ten contexts whose first keys all draw the query a little, and one key that answers it: with T < 1 it gets more among them."""
    logits = torch.full((1, 1, 1, 101), 1.0)
    logits[..., 0], logits[..., 57] = 3.0, 5.0
    k_pos = torch.tensor([[[0, *(list(range(1, 11)) * 10)]]])
    state = {"begin": torch.tensor([1]), "end": torch.tensor([11])}
    share = [float(APEParallel(temperature=t, scale=1 / t).weigh(logits, k_pos, state).softmax(-1)[..., 57]) for t in (1.0, 0.5)]
    assert share[1] > 1.5 * share[0]


def test_what_is_refused() -> None:
    for option, value in (("temperature", 0.0), ("scale", 2.1), ("prefix_tokens", -1), ("context_tokens", 0)):
        with pytest.raises(ConfigError, match=option):
            APEParallel(**{option: value})
    for other in (SnapKV(), KVzip()):
        with pytest.raises(RecipeError, match="share their positions"):
            Parts.of(Recipe((APEParallel(), other)))


def test_cost_is_the_weighing() -> None:
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, generated_tokens=3)
    cost = APEParallel().cost(shape)
    assert cost.flops == 4 * 2 * 4 * 100 * 3
    assert cost.bytes_kept == 100 * shape.token_bytes
