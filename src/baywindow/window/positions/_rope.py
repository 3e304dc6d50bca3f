"""Rotary frequencies that several position schemes share: what base a model has, and transformers' own scalings of it.

Frequencies are radians a position, float32, shape (F,) with F = rotary dimension / 2, fastest first, on the caller's device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from baywindow.errors import CapabilityError, ConfigError, ContextLengthError
from baywindow.window.base import Cost, Shape
from baywindow.window.positions.base import Asked, Branch


def base_of(inv_freq: Tensor) -> float:
    """The base b of a plain RoPE, whose frequencies are b^(−i/F). Raises CapabilityError for any other (already scaled) RoPE.

    ``model.to(bfloat16)`` rounds the frequencies, each by up to 2⁻⁸ of itself. Fitting the slope of their logarithms over all pairs, and
    not only the last, averages the rounding out; a pair may then stand 1 % off the fit. A scaled RoPE stands much farther off.
    """
    count = len(inv_freq)
    if count < 2:
        raise CapabilityError("the model's rotary embedding has fewer than two frequencies", hint="use a scheme that keeps them")
    pair = torch.arange(count, dtype=torch.float32, device=inv_freq.device) / count
    base = math.exp(-float((pair * inv_freq.float().log()).sum() / (pair * pair).sum()))
    if not torch.allclose(inv_freq.float(), frequencies(base, count, inv_freq), rtol=1e-2, atol=0.0):
        raise CapabilityError(
            "the model's rotary frequencies are not those of a plain RoPE: it is scaled already",
            hint="schemes that do not need the base work on it: linear, self_extend, rerope, dual_chunk, ms_poe",
        )
    return base


def frequencies(base: float, count: int, like: Tensor) -> Tensor:
    """b^(−i/count) for i = 0 … count − 1, on the device of ``like``."""
    return 1.0 / (base ** (torch.arange(count, dtype=torch.float32, device=like.device) / count))


def from_transformers(
    kind: str, inv_freq: Tensor, trained_tokens: int, seq_len: int | None = None, **settings: Any
) -> tuple[Tensor, float]:
    """Frequencies and attention factor that transformers computes for ``rope_type=kind`` over the same base and dimension."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "default", "rope_theta": base_of(inv_freq)}
    config = LlamaConfig(head_dim=2 * len(inv_freq), max_position_embeddings=trained_tokens, rope_parameters=rope)
    # Set afterwards: the constructor's validation warns about fields that only some types have.
    config.rope_parameters = rope | {"rope_type": kind, "original_max_position_embeddings": trained_tokens, **settings}
    scaled, factor = ROPE_INIT_FUNCTIONS[kind](config, inv_freq.device, seq_len=seq_len)
    return scaled.float(), float(factor)


def check_factor(name: str, value: float) -> None:
    """Raise ConfigError unless an extension factor is a finite number of at least 1."""
    if not (math.isfinite(value) and value >= 1):
        raise ConfigError.bad_value(name, value, "a number of at least 1 (target length / trained length)")


def check_at_least(name: str, value: float | None, least: float) -> None:
    """Raise ConfigError if an option is given and below ``least``."""
    if value is not None and not value >= least:
        raise ConfigError.bad_value(name, value, f"at least {least}")


def refuse_beyond(name: str, longest: int, reach: int, hint: str) -> None:
    """Raise ContextLengthError for a position beyond what the scheme was set up to reach."""
    if longest > reach:
        raise ContextLengthError(f"{name} as set reaches {reach} tokens; the sequence has {longest}", hint=hint)


def refuse_beyond_factor(name: str, asked: Asked, factor: float) -> None:
    """The same for a scheme that reaches ``factor`` trained windows."""
    window = asked.info.trained_tokens
    refuse_beyond(name, asked.longest, round(factor * window), f"set factor={math.ceil(asked.longest / window)} or more")


def everywhere(
    asked: Asked, inv_freq: Tensor, *, attention_scaling: float | None = None, query_scale: Tensor | None = None
) -> list[Branch]:
    """One branch at plain positions with other frequencies."""
    scaling = asked.attention_scaling if attention_scaling is None else attention_scaling
    return [Branch(q_at=asked.q_pos, k_at=asked.k_pos, inv_freq=inv_freq, attention_scaling=scaling, query_scale=query_scale)]


def log_scale(q_pos: Tensor, trained_tokens: int) -> Tensor:
    """max(1, ln(p + 1) / ln(trained window)) for every query position p: keeps the entropy of longer softmaxes."""
    return ((q_pos.clamp(min=0) + 1).float().log() / math.log(trained_tokens)).clamp(min=1.0)


def keep_all_cost(shape: Shape, rotations: Sequence[int] = (), extra_attention: int = 0) -> Cost:
    """Cost of a scheme that keeps every key.

    ``rotations`` lists, for each branch whose keys are rotated again at every forward, over how many heads; ``extra_attention``
    is the number of branches beyond the first over the prompt. The prompt counts as one forward.
    """
    forwards = shape.prompt_tokens
    for step in range(shape.generated_tokens):
        forwards += shape.prompt_tokens + step + 1
    rotate = 3 * shape.head_dim * shape.layers * forwards * sum(rotations)
    pairs = shape.attention_flops(shape.prompt_tokens, shape.prompt_tokens) * extra_attention
    kept = shape.token_bytes * shape.prompt_tokens
    return Cost(flops=rotate + pairs, bytes_kept=kept, bytes_read=kept)
