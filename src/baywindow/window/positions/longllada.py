"""LongLLaDA's base: enlarge the rotary base just so far that the last pair seen whole in training reaches the target length.

Paper: Liu et al., 2025, LongLLaDA: Unlocking Long Context Capabilities in Diffusion LLMs, arXiv 2506.14429, with the critical
dimension of Liu et al., 2023, Scaling Laws of RoPE-based Extrapolation, arXiv 2310.05209.

Idea: pairs beyond the critical dimension d* = 2⌈(d / 2) · log_b(L / 2π)⌉ never finished a turn within the trained window L.
Choosing the base b' = (T / 2π)^(d / d*) makes the critical pair's period the target length T, so every pair with a period that the
model has seen whole still turns within what it knows. With L = 4,096, b = 500,000 and d = 128 this gives b' / b = 3.4, 13.6, 30.6
and 54.4 at 8K, 16K, 24K and 32K.

Departs from the paper: the paper rounds b' / b up to a whole number, here it is exact. It decodes a diffusion model, which attends
both ways; the seam is for causal models, so only the base is taken over.

Shapes and units: ``factor`` = target length / trained length; frequencies (F,) in radians a position.

Cost: none beyond stock.

Errors: ConfigError for a factor below 1; CapabilityError on a model whose RoPE is scaled already; ContextLengthError beyond
factor × trained window.
"""

from __future__ import annotations

import math
from typing import ClassVar

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.positions._rope import base_of, check_factor, everywhere, frequencies, keep_all_cost, refuse_beyond_factor
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="Rotary base chosen from the critical dimension and the target length",
    paper="arXiv:2506.14429",
    year=2025,
    needs=("weights", "kv"),
    claim="Without training, retrieval works up to the target length that the base was chosen for, and fails beyond.",
    departures=(
        "the enlargement of the base is not rounded up to a whole number: the paper gives no reason to",
        "for causal models: the seam has no diffusion decoding",
    ),
)
class LongLLaDA(Position):
    fixed: ClassVar[bool] = True

    factor: float = 4.0  # T / L

    def __post_init__(self) -> None:
        check_factor("factor", self.factor)

    def reach(self, trained_tokens: int) -> int:
        return round(self.factor * trained_tokens)

    def branches(self, asked: Asked) -> list[Branch]:
        refuse_beyond_factor("longllada", asked, self.factor)
        trained = asked.info.trained_tokens
        base = enlarged_base(base_of(asked.inv_freq), 2 * len(asked.inv_freq), trained, self.factor * trained)
        return everywhere(asked, frequencies(base, len(asked.inv_freq), asked.inv_freq))

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape)


def critical_dimension(base: float, dim: int, trained_tokens: float) -> int:
    """d*: how many of ``dim`` rotary dimensions belong to pairs that finish a turn in training, at least 2, at most ``dim``."""
    pairs = math.ceil(dim / 2 * math.log(trained_tokens / (2 * math.pi), base))
    return 2 * min(max(pairs, 1), dim // 2)


def enlarged_base(base: float, dim: int, trained_tokens: float, target_tokens: float) -> float:
    """The new base, never below the old one (a target the old base reaches already needs no change)."""
    exponent = dim / critical_dimension(base, dim, trained_tokens)
    return float(max(base, (target_tokens / (2 * math.pi)) ** exponent))
