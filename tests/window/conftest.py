"""Tiny random models of many architectures, made once a session. No test changes their weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `local` is not installed")

COMMON: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
ROPE = {
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
        "rope_theta": 10000.0,
    },
    "linear": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.5, 2.0, 2.5, 3.0],
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 16,
    "factor": 4.0,
}
TWO_ROPES = {  # as Gemma 3 has: one base for the sliding layers, another for the full ones
    "full_attention": {"rope_type": "default", "rope_theta": 20000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama_yarn": ("Llama", {"rope_parameters": ROPE["yarn"]}),
    "llama_dynamic": ("Llama", {"rope_parameters": ROPE["dynamic"], "max_position_embeddings": 16}),
    "llama_llama3": ("Llama", {"rope_parameters": ROPE["llama3"]}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral_sliding": ("Mistral", {"sliding_window": 8}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "gemma2": ("Gemma2", {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0}),
    "gemma3": (
        "Gemma3Text",
        {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16, "layer_types": SLIDING, "rope_parameters": TWO_ROPES},
    ),
    "phi3_partial": ("Phi3", {"partial_rotary_factor": 0.5}),
    "phi3_longrope": ("Phi3", {"partial_rotary_factor": 0.5, "rope_parameters": LONGROPE, "original_max_position_embeddings": 16}),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 1, 0]}),
    "cohere2": ("Cohere2", {"sliding_window": 8, "layer_types": SLIDING}),
    "glm4": ("Glm4", {"head_dim": 16, "partial_rotary_factor": 0.5}),
    "olmo2": ("Olmo2", {}),
    "granite": ("Granite", {"attention_multiplier": 0.2}),
}


@functools.cache
def tiny_model(name: str, dtype: str = "float32", seed: int = 0) -> Any:
    """A random model in evaluation mode, with weights so large that attention is far from uniform and decides the logits."""
    family, extra = CONFIGS[name]
    config = getattr(transformers, f"{family}Config")(**{**COMMON, **extra})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{family.removesuffix('Text')}ForCausalLM")(config)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if weight.dim() == 2 and ("self_attn" in weight_name or "lm_head" in weight_name):
                weight.mul_(8.0)
    model = model.to(getattr(torch, dtype)).eval()
    # Frequencies stay float32, as after from_pretrained; `to` would have rounded them.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model


@pytest.fixture
def tiny() -> Callable[..., Any]:
    """``tiny("llama", "float32")``: a tiny random model; one object a name, number format and seed."""
    return tiny_model


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
