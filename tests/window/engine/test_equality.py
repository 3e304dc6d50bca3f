"""With no techniques the seam equals the stock model: every architecture, number format and way of running."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.window import attach

NAMES = [
    "llama", "llama_yarn", "llama_dynamic", "llama_llama3", "mistral", "mistral_sliding", "qwen2", "qwen3", "gemma2", "gemma3",
    "phi3_partial", "phi3_longrope", "smollm3", "cohere2", "glm4", "olmo2", "granite",
]  # fmt: skip
LENGTH = 24
IDS = torch.randint(1, 97, (2, LENGTH), generator=torch.Generator().manual_seed(1))
PAD = torch.ones(2, LENGTH, dtype=torch.long)
PAD[1, :9] = 0  # the second row is shorter
PADDED = IDS * PAD


def no_cache(model: Any, cache: Any) -> Any:
    return model(IDS, use_cache=False).logits


def cached(model: Any, cache: Any) -> Any:
    return model(IDS, past_key_values=cache, use_cache=True).logits


def chunked(model: Any, cache: Any, sizes: tuple[int, ...] = (10, 3, 11)) -> Any:
    return torch.cat([model(piece, past_key_values=cache, use_cache=True).logits for piece in IDS.split(sizes, dim=1)], dim=1)


def step_by_step(model: Any, cache: Any) -> Any:
    return chunked(model, cache, (1,) * LENGTH)


def padded(model: Any, cache: Any) -> Any:
    positions = (PAD.cumsum(1) - 1).clamp(min=0)
    logits = model(PADDED, attention_mask=PAD, position_ids=positions, past_key_values=cache, use_cache=True).logits
    return logits[PAD.bool()]


def padded_chunked(model: Any, cache: Any) -> Any:
    positions, out, start = (PAD.cumsum(1) - 1).clamp(min=0), [], 0
    for size in (11, 5, 8):
        stop = start + size
        out.append(
            model(
                PADDED[:, start:stop],
                attention_mask=PAD[:, :stop],
                position_ids=positions[:, start:stop],
                past_key_values=cache,
                use_cache=True,
            ).logits
        )
        start = stop
    return torch.cat(out, dim=1)[PAD.bool()]


def no_cache_padded(model: Any, cache: Any) -> Any:
    return model(PADDED, attention_mask=PAD, use_cache=False).logits[PAD.bool()]


def generate(model: Any, cache: Any) -> Any:
    extra = {"past_key_values": cache} if cache is not None else {}
    out = model.generate(IDS, max_new_tokens=12, do_sample=False, output_logits=True, return_dict_in_generate=True, **extra)
    return torch.stack(out.logits)


def generate_padded(model: Any, cache: Any) -> Any:
    extra = {"past_key_values": cache} if cache is not None else {}
    out = model.generate(
        PADDED, attention_mask=PAD, max_new_tokens=8, do_sample=False, output_logits=True, return_dict_in_generate=True, **extra
    )
    return torch.stack(out.logits)


WAYS: list[Callable[[Any, Any], Any]] = [
    no_cache, cached, chunked, step_by_step, padded, padded_chunked, no_cache_padded, generate, generate_padded,
]  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_the_seam_equals_the_stock_model(tiny: Callable[..., Any], name: str, dtype: str) -> None:
    model = tiny(name, dtype)
    stock = {way.__name__: way(model, transformers_cache(model)) for way in WAYS}
    with attach(model, "stock", fold_gqa=False) as w:
        ours = {way.__name__: way(model, w.cache()) for way in WAYS}
    worst = {way: float((ours[way].float() - stock[way].float()).abs().max()) for way in stock}
    # Bit-equal, except where a mask's memory layout makes the same kernel sum in another order.
    assert worst == {way: pytest.approx(0.0, abs=1e-6) for way in stock}
    assert {w: x.argmax(-1).tolist() for w, x in ours.items()} == {w: x.argmax(-1).tolist() for w, x in stock.items()}


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gemma3", "cohere2", "qwen2"])
def test_folded_decoding_equals_stock_up_to_rounding(tiny: Callable[..., Any], name: str) -> None:
    model = tiny(name)
    expected = [way(model, transformers_cache(model)) for way in (step_by_step, padded_chunked, generate, generate_padded)]
    with attach(model, "stock", fold_gqa=True) as w:
        assert w.fold_gqa
        got = [way(model, w.cache()) for way in (step_by_step, padded_chunked, generate, generate_padded)]
    for ours, stock in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, stock, atol=2e-5, rtol=1e-5)


def test_folding_is_left_out_where_the_self_test_does_not_allow_it(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from baywindow.errors import CapabilityError
    from baywindow.window.engine import layer

    monkeypatch.setattr(layer, "folded", lambda q, keys, values, mask, scaling: torch.zeros(q.shape[0], 1, q.shape[1], values.shape[-1]))
    with attach(tiny("llama")) as w:
        assert not w.fold_gqa
    with pytest.raises(CapabilityError, match="with a cache differ"):
        attach(tiny("llama"), fold_gqa=True)
    assert not attach_eager(tiny).fold_gqa


def attach_eager(tiny: Callable[..., Any]) -> Any:
    with attach(tiny("gemma2")) as w:
        return w


def transformers_cache(model: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_beam_search_equals_stock(tiny: Callable[..., Any], name: str) -> None:
    model = tiny(name)
    options: dict[str, Any] = {"max_new_tokens": 10, "num_beams": 3, "do_sample": False, "num_return_sequences": 2}
    expected = model.generate(PADDED, attention_mask=PAD, **options)
    with attach(model) as w:
        got = model.generate(PADDED, attention_mask=PAD, past_key_values=w.cache(), **options)
    assert got.tolist() == expected.tolist()


@torch.no_grad()
def test_sampling_with_a_seed_equals_stock(tiny: Callable[..., Any]) -> None:
    model = tiny("qwen2")
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": True, "temperature": 0.9, "top_k": 20, "num_return_sequences": 3}
    torch.manual_seed(5)
    expected = model.generate(IDS, **options)
    with attach(model) as w:
        torch.manual_seed(5)
        got = model.generate(IDS, past_key_values=w.cache(), **options)
    assert got.tolist() == expected.tolist()


@torch.no_grad()
def test_streaming_gives_the_same_tokens(tiny: Callable[..., Any]) -> None:
    class Streamer:
        def __init__(self) -> None:
            self.tokens: list[int] = []

        def put(self, value: Any) -> None:
            self.tokens += value.flatten().tolist()

        def end(self) -> None:
            pass

    model = tiny("llama")
    expected = model.generate(IDS[:1], max_new_tokens=6, do_sample=False)[0].tolist()
    streamer = Streamer()
    with attach(model) as w:
        model.generate(IDS[:1], max_new_tokens=6, do_sample=False, past_key_values=w.cache(), streamer=streamer)
    assert streamer.tokens == expected


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_assisted_decoding_equals_greedy(tiny: Callable[..., Any], name: str) -> None:
    model, assistant = tiny(name), tiny("llama", seed=3)
    prompt = torch.cat([IDS[:1], IDS[:1]], dim=1)  # repeated, so that prompt lookup proposes tokens
    expected = model.generate(prompt, max_new_tokens=12, do_sample=False)
    with attach(model) as w:
        got = model.generate(prompt, max_new_tokens=12, do_sample=False, past_key_values=w.cache(), assistant_model=assistant)
        looked_up = model.generate(prompt, max_new_tokens=12, do_sample=False, past_key_values=w.cache(), prompt_lookup_num_tokens=3)
    assert got.tolist() == expected.tolist()
    assert looked_up.tolist() == expected.tolist()


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_several_questions_over_one_context(tiny: Callable[..., Any], name: str) -> None:
    """A copied cache goes its own way; the model is not copied with it."""
    model = tiny(name)
    expected = [model(torch.cat([IDS, question], dim=1)).logits[:, LENGTH:] for question in (IDS[:, :5], IDS[:, 7:9])]
    with attach(model) as w:
        context = w.cache()
        model(IDS, past_key_values=context)
        got = []
        for question in (IDS[:, :5], IDS[:, 7:9]):
            one = copy.deepcopy(context)
            assert one.runtime is w
            got.append(model(question, past_key_values=one).logits)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_ragged_questions_behind_a_shared_context_on_sliding_layers(tiny: Callable[..., Any]) -> None:
    """A row whose question is padded on its left reaches further back in slots than in positions."""
    model = tiny("gemma3")
    mask = torch.ones(2, LENGTH + 6, dtype=torch.long)
    mask[1, LENGTH : LENGTH + 4] = 0
    questions = IDS[:, :6]
    alone = model(torch.cat([IDS[1:], questions[1:, 4:]], dim=1)).logits[:, -2:]
    with attach(model) as w:
        cache = w.cache()
        model(IDS, past_key_values=cache, attention_mask=mask[:, :LENGTH])
        positions = (mask.cumsum(1) - 1)[:, LENGTH:]
        got = model(questions, past_key_values=cache, attention_mask=mask, position_ids=positions).logits[1:, -2:]
        step = model(IDS[:, :1], past_key_values=cache, attention_mask=torch.nn.functional.pad(mask, (0, 1), value=1),
                     position_ids=positions[:, -1:] + 1).logits[1:]  # fmt: skip
    torch.testing.assert_close(got, alone, atol=2e-5, rtol=1e-5)
    later = model(torch.cat([IDS[1:], questions[1:, 4:], IDS[1:, :1]], dim=1)).logits[:, -1:]
    torch.testing.assert_close(step, later, atol=2e-5, rtol=1e-5)


def test_gradients_flow_without_a_cache_as_in_stock(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    weight = model.model.layers[0].self_attn.k_proj.weight

    def gradient() -> Any:
        loss = model(IDS, labels=IDS, use_cache=False).loss
        return torch.autograd.grad(loss, weight)[0]

    expected = gradient()
    with attach(model):
        got = gradient()
    assert torch.equal(got, expected)
