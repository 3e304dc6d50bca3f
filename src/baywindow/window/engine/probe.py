"""What a model is like inside, found by looking and by one probing forward; and what this engine refuses, with the reason."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from baywindow.errors import CapabilityError
from baywindow.window.base import LayerInfo, ModelInfo
from baywindow.window.engine.rotary import Apply

UNSUPPORTED = {  # model_type -> what stands in the way
    "llama4": "its rotary positions are complex numbers",
    "llama4_text": "its rotary positions are complex numbers",
    "gemma3n": "its layers share keys and values",
    "gemma3n_text": "its layers share keys and values",
    "gemma4": "its layers share keys and values",
    "gemma4_text": "its layers share keys and values",
}


@dataclass
class Sighting:
    """What one attention module passed during the probing forward (shapes, how many of q's dimensions are rotated, extras)."""

    q_heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    rotary_dim: int
    scaling: float
    softcap: float | None
    sinks: bool


@dataclass
class Found:
    """Where the doors are. ``rotaries`` are (parent module, attribute, rotary module); all are put back on detach."""

    config: Any
    decoder: nn.Module
    rotaries: list[tuple[nn.Module, str, nn.Module]]
    sightings: dict[int, Sighting] = field(default_factory=dict)
    modules: dict[int, nn.Module] = field(default_factory=dict)


def find(model: nn.Module) -> Found:
    """The model's rotary modules and decoder, or CapabilityError with the reason this model cannot be used."""
    if type(model).__name__ == "OptimizedModule" or hasattr(model, "_orig_mod"):
        raise refusal("it is compiled with torch.compile", "attach to the model before compiling, and do not compile it")
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        raise refusal("it is not a transformers model", "load it with AutoModelForCausalLM.from_pretrained")
    if getattr(config, "is_encoder_decoder", False):
        raise refusal("it is an encoder-decoder model", "use a decoder-only language model")
    text = config.get_text_config(decoder=True)
    kind = str(getattr(text, "model_type", ""))
    if kind in UNSUPPORTED:
        raise refusal(UNSUPPORTED[kind], "this needs an adapter that does not exist yet")
    if getattr(text, "kv_lora_rank", None):
        raise refusal("it has multi-head latent attention (MLA)", "its cache holds latents, not keys and values per head")
    if "mrope_section" in str(getattr(text, "rope_parameters", "")):
        raise refusal("it has multimodal rotary positions (mRoPE)", "use a text-only model")
    if _has_alibi(model, text):
        raise refusal("it has ALiBi biases instead of rotary positions", "use a model with rotary positions")
    rotaries = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if "rotary" in type(child).__name__.lower() and name.endswith("rotary_emb")
    ]
    if not rotaries:
        raise refusal("it has no rotary position module", "use a model with rotary positions (Llama, Qwen, Mistral, Gemma, Phi, …)")
    if len(rotaries) > 1:
        raise refusal(f"it has {len(rotaries)} rotary modules", "one shared rotary module is needed")
    return Found(config=text, decoder=rotaries[0][0], rotaries=rotaries)


def _has_alibi(model: nn.Module, config: Any) -> bool:
    if getattr(config, "alibi", False) or getattr(config, "position_embedding_type", "") == "alibi" or config.model_type == "mpt":
        return True
    return any("alibi" in name for module in model.modules() for name in vars(type(module)))


def sight(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, extras: dict[str, Any]) -> Sighting:
    """What the probing forward shows of one layer: NaN marks what is rotated."""
    rotated = int(torch.isnan(query[0, 0, -1]).sum())
    return Sighting(
        q_heads=query.shape[1],
        kv_heads=key.shape[1],
        head_dim=query.shape[-1],
        value_dim=value.shape[-1],
        rotary_dim=rotated,
        scaling=float(scaling if scaling is not None else query.shape[-1] ** -0.5),
        softcap=extras.get("softcap"),
        sinks=extras.get("s_aux") is not None,
    )


def describe(model: nn.Module, found: Found, layer_types: list[str], layer_kwargs: list[dict[str, Any]]) -> ModelInfo:
    """The sightings as a `ModelInfo`. Raises CapabilityError if a layer never asked for attention."""
    if missing := [i for i in range(len(layer_types)) if i not in found.sightings]:
        what = f"layer {missing[0]} ({layer_types[missing[0]]}) does not use transformers' attention interface"
        raise refusal(what, "only pure attention models fit; hybrids with linear or recurrent layers do not")
    layers = []
    for i, (kind, kwargs) in enumerate(zip(layer_types, layer_kwargs, strict=True)):
        s = found.sightings[i]
        per_type = isinstance(getattr(found.rotaries[0][2], "rope_type", None), dict)
        layers.append(
            LayerInfo(
                index=i,
                layer_type=kind,
                sliding_window=kwargs.get("sliding_window"),
                has_rope=s.rotary_dim > 0,
                q_heads=s.q_heads,
                kv_heads=s.kv_heads,
                head_dim=s.head_dim,
                value_dim=s.value_dim,
                rotary_dim=s.rotary_dim,
                scaling=s.scaling,
                softcap=s.softcap,
                rope_key=kind if per_type else "",
            )
        )
    if not any(layer.has_rope for layer in layers):
        raise refusal("none of its layers rotates queries and keys", "use a model with rotary positions")
    config = found.config
    return ModelInfo(
        name=str(getattr(config, "_name_or_path", "") or type(model).__name__),
        layers=tuple(layers),
        trained_tokens=trained_window(config),
        vocabulary=int(config.vocab_size),
    )


def trained_window(config: Any) -> int:
    """The window the weights were trained for: what rope scaling names as original, else the maximum."""
    rope = getattr(config, "rope_parameters", None) or {}
    tables = list(rope.values()) if rope and all(isinstance(v, dict) for v in rope.values()) else [rope]
    original = [int(t["original_max_position_embeddings"]) for t in tables if t and t.get("original_max_position_embeddings")]
    return min(original) if original else int(config.max_position_embeddings)


def apply_function(module: nn.Module) -> Apply:
    """The ``apply_rotary_pos_emb`` of the file the attention module comes from."""
    home = sys.modules[type(module).__module__]
    found = getattr(home, "apply_rotary_pos_emb", None)
    if found is None:
        raise refusal(f"{home.__name__} has no apply_rotary_pos_emb", "this model rotates in a way the engine does not know")
    return found  # type: ignore[no-any-return]


def eager_function(module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
    """The ``eager_attention_forward`` of the file the attention module comes from."""
    found = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if found is None:
        raise refusal("its file has no eager attention", "load it with attn_implementation='sdpa'")
    return found  # type: ignore[no-any-return]


def refusal(why: str, hint: str) -> CapabilityError:
    return CapabilityError(f"baywindow cannot work inside this model: {why}", hint=hint)
