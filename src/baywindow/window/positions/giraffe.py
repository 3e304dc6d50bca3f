"""Giraffe's truncated basis: rotary pairs too slow to finish a turn in training are frozen or set to one slow constant.

Paper: Pal et al., 2023, Giraffe: Adventures in Expanding Context Lengths in LLMs, arXiv 2308.10882. Reference code read:
abacusai/Long-Context.

Idea: a pair that never finished a turn has shown the model only a part of its circle; at longer distances it enters the unseen
part. So pairs with a period of at most T tokens are kept; those slower by up to ``zero_ratio`` turn at the constant period
``slow_ratio`` · T; those slower still do not turn at all.

Departs from the paper: no fine-tuning, which the paper does after changing the basis. The power basis and linear scaling of the
same paper are options, applied before truncation as in the released code, and off.

Shapes and units: ``truncate_tokens`` T in tokens (a period); frequencies (F,) in radians a position.

Cost: none beyond stock.

Errors: ConfigError for options out of range.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.positions._rope import check_at_least, check_factor, everywhere, keep_all_cost
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="Freeze rotary pairs that never finished a turn in training",
    paper="arXiv:2308.10882",
    year=2023,
    needs=("weights", "kv"),
    claim="After the same fine-tuning the truncated basis extrapolates further than the full one; linear scaling still beats it.",
    departures=("no fine-tuning: this room changes no weights",),
)
class Giraffe(Position):
    fixed: ClassVar[bool] = True

    truncate_tokens: int | None = None  # T; None: the trained window
    zero_ratio: float = 8.0  # pairs slower than this many T a turn are frozen
    slow_ratio: float = 16.0  # period of the pairs between, in T
    factor: float = 1.0  # linear scaling before truncation; 1: none
    power: float = 0.0  # exponent of the power basis; 0: none

    def __post_init__(self) -> None:
        check_at_least("truncate_tokens", self.truncate_tokens, 1)
        check_at_least("zero_ratio", self.zero_ratio, 1)
        check_at_least("slow_ratio", self.slow_ratio, 1)
        check_at_least("power", self.power, 0)
        check_factor("factor", self.factor)

    def reach(self, trained_tokens: int) -> int:
        return round(self.factor * trained_tokens)

    def branches(self, asked: Asked) -> list[Branch]:
        period = self.truncate_tokens or asked.info.trained_tokens
        scaled = power_basis(asked.inv_freq / self.factor, self.power)
        return everywhere(asked, truncated(scaled, period, self.zero_ratio, self.slow_ratio))

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape)


def truncated(inv_freq: Tensor, period: float, zero_ratio: float, slow_ratio: float) -> Tensor:
    """The truncated basis for frequencies (F,): kept, one constant, or zero."""
    cutoff = 2 * math.pi / period
    slow = torch.where(inv_freq < cutoff, 2 * math.pi / (slow_ratio * period), inv_freq)
    return torch.where(inv_freq < cutoff / zero_ratio, 0.0, slow)


def power_basis(inv_freq: Tensor, power: float) -> Tensor:
    """Frequency i times (1 − i / F)^power, for frequencies (F,)."""
    count = len(inv_freq)
    share = torch.arange(count, dtype=inv_freq.dtype, device=inv_freq.device) / count
    return inv_freq * (1 - share) ** power
