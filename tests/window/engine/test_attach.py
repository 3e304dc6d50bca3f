"""In and out again: what is restored, and what is refused with which reason."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from baywindow import recipe
from baywindow.errors import CapabilityError, ConfigError, RecipeError
from baywindow.window import attach
from baywindow.window.base import LayerInfo
from baywindow.window.engine import selftest
from baywindow.window.engine.attending import by_query_head

IDS = torch.randint(1, 97, (1, 20), generator=torch.Generator().manual_seed(3))
SMALL: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def snapshot(model: Any) -> Any:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return (
        [(name, id(module), type(module)) for name, module in model.named_modules()],
        [(name, id(tensor), tensor._version) for name, tensor in [*model.named_parameters(), *model.named_buffers()]],
        model.config.to_dict(),
        model.config._attn_implementation,
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        sorted(ALL_ATTENTION_FUNCTIONS.valid_keys()),
        sorted(ALL_MASK_ATTENTION_FUNCTIONS.valid_keys()),
    )


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gemma3", "gemma2"])
def test_detach_puts_everything_back(tiny: Callable[..., Any], name: str) -> None:
    model = tiny(name)
    before, logits = snapshot(model), model(IDS).logits
    with attach(model, "snapkv(budget_tokens=8, window_tokens=4)") as w:
        model.generate(IDS, past_key_values=w.cache(), max_new_tokens=3)
    assert snapshot(model) == before
    assert torch.equal(model(IDS).logits, logits)
    w.detach()  # a second time does nothing
    assert snapshot(model) == before


@torch.no_grad()
def test_detach_after_an_exception(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    before, logits = snapshot(model), model(IDS).logits

    def fail() -> None:
        with attach(model) as w:
            model(IDS, past_key_values=w.cache())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert snapshot(model) == before
    assert torch.equal(model(IDS).logits, logits)


def test_a_forward_that_fails_leaves_the_runtime_usable(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with torch.no_grad(), attach(model) as w:
        cache = w.cache()
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.tensor([[200]]), past_key_values=cache)  # no such token
        assert cache.get_seq_length() == 0
        assert torch.isfinite(model(IDS, past_key_values=cache).logits).all()


def test_a_model_that_fails_the_self_test_is_refused_and_restored(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    before = snapshot(model)
    real = selftest.stock_logits
    monkeypatch.setattr(selftest, "stock_logits", lambda *args: real(*args) + 1.0)
    with pytest.raises(CapabilityError, match="logits without a cache differ from the stock model's by 1"):
        attach(model)
    assert snapshot(model) == before


def test_models_that_do_not_fit_are_refused_with_the_reason() -> None:
    def refused(model: Any) -> str:
        with pytest.raises(CapabilityError) as caught:
            attach(model)
        return str(caught.value)

    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    )
    assert "no rotary" in refused(gpt2)
    t5 = transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=97, d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=16)
    )
    assert "encoder-decoder" in refused(t5)
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=1, n_head=2))
    assert "ALiBi" in refused(bloom)
    assert "not a transformers model" in refused(torch.nn.Linear(2, 2))
    mla = transformers.DeepseekV3ForCausalLM(
        transformers.DeepseekV3Config(
            **{**SMALL, "num_key_value_heads": 4},
            kv_lora_rank=16,
            q_lora_rank=16,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=8,
            n_routed_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            first_k_dense_replace=2,
            n_group=1,
            topk_group=1,
        )
    )
    assert "multi-head latent attention" in refused(mla)
    llama4 = transformers.Llama4ForCausalLM(
        transformers.Llama4TextConfig(**SMALL, intermediate_size_mlp=32, num_local_experts=1, head_dim=8, interleave_moe_layer_step=2)
    )
    assert "complex" in refused(llama4)


def test_a_compiled_model_is_refused(tiny: Callable[..., Any]) -> None:
    class Compiled(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self._orig_mod = inner

    with pytest.raises(CapabilityError, match=r"torch\.compile"):
        attach(Compiled(tiny("llama")))


def test_multimodal_positions_are_refused(tiny: Callable[..., Any]) -> None:
    model = copy.deepcopy(tiny("llama"))
    model.config.rope_parameters = {**model.config.rope_parameters, "mrope_section": [2, 3, 3]}
    with pytest.raises(CapabilityError, match="mRoPE"):
        attach(model)


def test_attaching_twice_is_refused(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model) as w:
        with pytest.raises((ConfigError, CapabilityError), match="attached"):
            attach(model)
        assert torch.isfinite(model(IDS, past_key_values=w.cache()).logits).all()  # the first is unharmed


@torch.no_grad()
def test_two_models_may_be_attached_at_once(tiny: Callable[..., Any]) -> None:
    a, b = tiny("llama"), tiny("gemma3")
    expected = a(IDS).logits, b(IDS).logits
    with attach(a) as wa, attach(b, "random(budget_tokens=4)") as wb:
        got = a(IDS, past_key_values=wa.cache()).logits, b(IDS, past_key_values=wb.cache()).logits
        with pytest.raises(ConfigError, match="made for"):
            a(IDS, past_key_values=wb.cache())
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


@torch.no_grad()
def test_foreign_and_old_caches_are_refused(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "random(budget_tokens=4)") as w:
        old = w.cache()
        with pytest.raises(ConfigError, match="was given a DynamicCache"):
            model.generate(IDS, max_new_tokens=2)
        with pytest.raises(ConfigError, match="StaticCache"):
            model(IDS, past_key_values=transformers.StaticCache(config=model.config, max_cache_len=32))
    with attach(model, "random(budget_tokens=5)"), pytest.raises(ConfigError, match=r"random\(budget_tokens=4\)"):
        model(IDS, past_key_values=old)


@torch.no_grad()
def test_masks_that_do_not_fit_are_refused(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model) as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        with pytest.raises(ConfigError, match="attention_mask covers 1 tokens, but 21"):
            model(IDS[:, :1], past_key_values=cache, attention_mask=torch.ones(1, 1, dtype=torch.long))
        with pytest.raises(ConfigError, match="4-D"):
            model(IDS, past_key_values=w.cache(), attention_mask=torch.zeros(1, 1, 20, 20))


@torch.no_grad()
def test_assisted_decoding_is_refused_once_tokens_can_be_dropped(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    prompt = torch.cat([IDS, IDS], dim=1)
    with attach(model, "random(budget_tokens=8)") as w, pytest.raises(CapabilityError, match="cannot be taken back"):
        model.generate(prompt, max_new_tokens=8, do_sample=False, past_key_values=w.cache(), prompt_lookup_num_tokens=3)


@torch.no_grad()
def test_a_budget_above_the_prompt_does_nothing_and_says_so(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    expected = model.generate(IDS, max_new_tokens=4, do_sample=False)
    with attach(model, "snapkv(budget_tokens=100)") as w:
        got = model.generate(IDS, max_new_tokens=4, do_sample=False, past_key_values=w.cache())
        assert "nothing was dropped" in str(w.report())
    assert got.tolist() == expected.tolist()


@torch.no_grad()
def test_the_report_says_what_is_held(tiny: Callable[..., Any]) -> None:
    model = tiny("gemma3")
    with attach(model, "random(budget_tokens=8)") as w:
        with pytest.raises(ConfigError, match="no cache"):
            w.report()
        model.generate(IDS, max_new_tokens=4, do_sample=False, past_key_values=w.cache())
        report = w.report()
    assert report.seen == (23,)
    assert report.kept == (((7, 7),), ((11, 11),), ((7, 7),))  # window − 1; budget + 3 generated; window − 1
    assert report.stock_nbytes == 2 * 2 * 16 * 4 * (7 + 23 + 7)  # K and V, 2 heads, dimension 16, float32
    assert report.to_dict()["recipe"] == "random(budget_tokens=8)"
    assert set(report.seconds) == {"attention", "caches"}


def test_recipes_that_cannot_combine_are_refused_when_parsed() -> None:
    for line, reason in {
        "snapkv + random": "slot 'reduce'",
        "streaming_llm + kivi": "drops tokens at every step",
        "tova + ada_kv": "every head",
        "ada_kv": "shares out the budget",
        "lm_infinite + self_extend": "at which distance",
        "kivi + kivi": "slot 'quantise'",
    }.items():
        with pytest.raises(RecipeError, match=reason):
            recipe.parse(line)


@torch.no_grad()
@pytest.mark.parametrize("recipe", ["snapkv(budget_tokens=8, window_tokens=4)", "streaming_llm(budget_tokens=8)"])
def test_beam_search_with_a_cache_that_drops_tokens(tiny: Callable[..., Any], recipe: str) -> None:
    """The best of three beams scores at least as well as greedy, and rows keep their own context."""
    model = tiny("llama")
    batch = torch.cat([IDS, IDS.flip(1)])
    with attach(model, recipe) as w:
        both = model.generate(batch, max_new_tokens=5, num_beams=3, do_sample=False, past_key_values=w.cache())
        alone = model.generate(batch[1:], max_new_tokens=5, num_beams=3, do_sample=False, past_key_values=w.cache())
    assert both[1].tolist() == alone[0].tolist()


def test_one_mask_for_all_heads_is_not_repeated() -> None:
    """Also where the model has one key/value head: a mask for each query head would cost the kernel four times the memory."""
    layer = LayerInfo(
        index=0, layer_type="full_attention", sliding_window=None, has_rope=True, q_heads=4, kv_heads=1, head_dim=2, value_dim=2,
        rotary_dim=2, scaling=1.0,
    )  # fmt: skip
    mask = torch.ones(1, 1, 3, 5, dtype=torch.bool)
    assert by_query_head(mask, layer) is mask
    two = dataclasses.replace(layer, kv_heads=2)
    assert by_query_head(torch.tensor([True, False]).view(1, 2, 1, 1), two).flatten().tolist() == [True, True, False, False]
