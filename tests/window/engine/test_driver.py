"""Feeding in chunks, questions in and out, running out of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import BudgetError, ConfigError
from baywindow.window import attach
from baywindow.window.engine import driver

IDS = torch.randint(1, 97, (2, 50), generator=torch.Generator().manual_seed(2))
CHAIN = "ada_kv + snapkv(budget_tokens=16, window_tokens=4) + kivi(group_tokens=4, residual_tokens=4)"
REDUCING = ["snapkv(budget_tokens=16, window_tokens=4)", "random(budget_tokens=16)", "streaming_llm(budget_tokens=16)"]


@torch.no_grad()
@pytest.mark.parametrize("recipe", [*REDUCING, "stock", "kivi(group_tokens=4, residual_tokens=8)"])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_the_chunk_size_does_not_change_the_result(tiny: Callable[..., Any], name: str, recipe: str) -> None:
    model = tiny(name)
    with attach(model, recipe) as w:
        one, many = w.prefill(IDS, chunk_tokens=50), w.prefill(IDS, chunk_tokens=7)  # the last of seven is one token
        assert [h.tolist() for h in one.held()] == [h.tolist() for h in many.held()]
        a, b = (model(IDS[:, :3], past_key_values=cache).logits for cache in (one, many))
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("recipe", REDUCING)
def test_every_chunk_is_compressed_when_asked(tiny: Callable[..., Any], recipe: str) -> None:
    model = tiny("llama")
    most = 0
    with attach(model, recipe) as w:
        cache = w.cache()
        for piece in IDS.split(10, dim=1):  # by hand, as a user would
            model(piece, past_key_values=cache)
            most = max(most, *(int(h.max()) for h in cache.held()))
        driven = w.prefill(IDS, chunk_tokens=10, each_chunk=True)
    assert most == 16
    assert [h.tolist() for h in cache.held()] == [h.tolist() for h in driven.held()]
    assert all(int(h.max()) == 16 for h in driven.held())


@torch.no_grad()
def test_a_fraction_counts_all_tokens_seen_so_far(tiny: Callable[..., Any]) -> None:
    """Two chunks of 25 at one half leave 25, not 13 or 38."""
    model = tiny("llama")
    with attach(model, "random(budget_fraction=0.5)") as w:
        cache = w.cache()
        model(IDS[:, :25], past_key_values=cache)
        model(IDS[:, 25:], past_key_values=cache)
    assert {int(n) for h in cache.held() for n in h.flatten()} == {25}


@torch.no_grad()
@pytest.mark.parametrize("recipe", [r for r in REDUCING if "streaming" not in r])
def test_a_question_kept_out_neither_votes_nor_goes(tiny: Callable[..., Any], recipe: str) -> None:
    model = tiny("llama")
    with attach(model, recipe) as w:
        with_question, context = w.cache(question_tokens=6), w.cache()
        model(IDS, past_key_values=with_question)
        model(IDS[:, :44], past_key_values=context)
        held = with_question.store(1).view().head_positions.sort(dim=-1).values
        before = context.store(1).view().head_positions.sort(dim=-1).values
        assert "kept out" in w.report(with_question).question
        assert "took part" in w.report(context).question
    assert torch.equal(held[..., :16], before)  # chosen as if there were no question
    assert held[..., 16:].tolist() == torch.arange(44, 50).expand(2, 2, 6).tolist()


@torch.no_grad()
def test_positions_stay_true_after_eviction(tiny: Callable[..., Any]) -> None:
    """What is kept attends at the angles it had: equal to a stock model that sees only the kept tokens, at their true positions."""
    model = tiny("llama")
    with attach(model, "random(budget_tokens=8)") as w:
        cache = w.cache()
        model(IDS[:1], past_key_values=cache)
        got = model(IDS[:1, :1], past_key_values=cache).logits
    # Oracle: stock attention with a 4-D mask that hides what each head of each layer dropped cannot be written for all layers at once,
    # so layer by layer: replay with hooks that zero the dropped keys' weights.
    want = masked_oracle(model, IDS[:1], IDS[:1, :1], [s.view().head_positions for s in cache.stores])
    torch.testing.assert_close(got, want, atol=3e-5, rtol=1e-5)


def masked_oracle(model: Any, context: Any, step: Any, kept: list[Any]) -> Any:
    """The stock model in eager attention, decoding one token while each head may see only its kept positions."""
    from transformers import DynamicCache
    from transformers.models.llama import modeling_llama

    def attention(module: Any, q: Any, k: Any, v: Any, mask: Any, scaling: float, **_: Any) -> Any:
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        logits = q @ k.transpose(2, 3) * scaling
        if q.shape[2] == 1:
            visible = torch.zeros(1, k.shape[1], 1, k.shape[2], dtype=torch.bool)
            for head in range(k.shape[1]):
                visible[0, head, 0, kept[module.layer_idx][0, head // group]] = True
            visible[..., -1] = True
        else:
            visible = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
        weights = torch.softmax(logits.masked_fill(~visible, -torch.inf), dim=-1)
        return (weights @ v).transpose(1, 2).contiguous(), None

    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register("test-oracle", attention)
    was = model.config._attn_implementation
    model.config._attn_implementation = "test-oracle"
    try:
        cache = DynamicCache(config=model.config)
        model(context, past_key_values=cache)
        return model(step, past_key_values=cache).logits
    finally:
        model.config._attn_implementation = was
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop("test-oracle")
        assert modeling_llama is not None


def test_what_cannot_be_fed_is_refused(tiny: Callable[..., Any]) -> None:
    with attach(tiny("llama")) as w:
        with pytest.raises(ConfigError, match="padded on the left"):
            w.prefill(IDS, mask=torch.tensor([[1] * 50, [1] * 40 + [0] * 10]))
        with pytest.raises(ConfigError, match="holds no token"):
            w.prefill(IDS, mask=torch.tensor([[1] * 50, [0] * 50]))
        with pytest.raises(ConfigError, match="mask has shape"):
            w.prefill(IDS, mask=torch.ones(2, 3))
        with pytest.raises(ConfigError, match="cannot be fed"):
            w.prefill(IDS[:, :0])
        with pytest.raises(ConfigError, match="chunk_tokens"):
            w.prefill(IDS, chunk_tokens=0)
        with pytest.raises(ConfigError, match="question_tokens"):
            w.cache(question_tokens=-1)


def test_out_of_memory_names_a_budget_that_would_fit(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with attach(tiny("llama")) as w:
        real, calls = w.found.decoder.forward, []

        def forward(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise torch.OutOfMemoryError("no more")
            return real(*args, **kwargs)

        monkeypatch.setattr(w.found.decoder, "forward", forward)
        monkeypatch.setattr(driver, "CHUNK_TOKENS", 10)
        with pytest.raises(BudgetError, match="out of memory after 20 tokens") as caught:
            w.prefill(IDS, chunk_tokens=10)
    assert "budget_tokens=64" in caught.value.hint


@torch.no_grad()
@pytest.mark.parametrize("recipe", [*REDUCING, CHAIN])
@pytest.mark.parametrize("options", [{}, {"each_chunk": True}], ids=["at the end", "each chunk"])
def test_a_padded_batch_fed_in_chunks_gives_each_row_what_it_gets_alone(
    tiny: Callable[..., Any], recipe: str, options: dict[str, Any]
) -> None:
    """The short row's chunks begin where its padding ends; compressing at the end, where chunks begin does not matter at all."""
    model = tiny("gemma3")
    mask = torch.ones(2, 50, dtype=torch.long)
    mask[1, :20] = 0  # two whole chunks of padding
    with attach(model, recipe) as w:
        both = w.cache(question_tokens=3)
        w.prefill(IDS * mask, both, mask=mask, chunk_tokens=10, **options)
        alone = w.cache(question_tokens=3)
        w.prefill(IDS[1:, 20:], alone, chunk_tokens=10, **options)
        assert [h[1].tolist() for h in both.held()] == [h[0].tolist() for h in alone.held()]
        step = torch.tensor([[5], [5]])
        full = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], dim=1)
        got = model(step, past_key_values=both, attention_mask=full, position_ids=torch.tensor([[50], [30]])).logits[1:]
        want = model(step[:1], past_key_values=alone).logits
    torch.testing.assert_close(got, want, atol=3e-5, rtol=1e-4)


@torch.no_grad()
def test_a_question_after_a_closed_context_is_said_to_be_kept_out(tiny: Callable[..., Any]) -> None:
    with attach(tiny("llama"), "random(budget_tokens=16)") as w:
        cache = w.prefill(IDS)
        tiny("llama")(IDS[:, :1], past_key_values=cache)  # a step says nothing about a question
        assert "took part" in w.report(cache).question
        tiny("llama")(IDS[:, :4], past_key_values=cache)
        assert "kept out" in w.report(cache).question


@torch.no_grad()
def test_transformers_own_chunked_prefill_compresses_every_chunk(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "random(budget_tokens=16)") as w:
        by_generate, by_hand = w.cache(), w.cache()
        model.generate(IDS, past_key_values=by_generate, max_new_tokens=1, do_sample=False, prefill_chunk_size=10)
        for piece in IDS.split(10, dim=1):
            model(piece, past_key_values=by_hand)
    for a, b in zip(by_generate.stores, by_hand.stores, strict=True):
        assert torch.equal(a.view().positions, b.view().positions)
        torch.testing.assert_close(a.view().keys, b.view().keys)
