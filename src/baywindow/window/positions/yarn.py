"""YaRN: interpolate slow rotary pairs, leave fast ones, ramp between, and sharpen attention for the longer context.

Paper: Peng et al., 2023, YaRN: Efficient Context Window Extension of Large Language Models, arXiv 2309.00071.

Idea: a pair that turns more than ``beta_fast`` times within the trained window encodes only nearness and is left alone; one that
turns less than ``beta_slow`` times has angles beyond the trained range and is interpolated fully; a linear ramp joins the two.
Logits are multiplied by (0.1 ln(factor) + 1)², which undoes the flatter softmax over more keys.

Departs from the paper: no fine-tuning. Frequencies and attention factor are transformers' own, whose ramp runs over rounded pair
numbers (as the reference code does) and not over the number of turns.

Shapes and units: ``factor`` = target length / trained length; ``beta_*`` in turns within the trained window.

Cost: none beyond stock.

Errors: ConfigError for a factor below 1 or beta_fast not above beta_slow; CapabilityError on a model whose RoPE is scaled
already; ContextLengthError beyond factor × trained window.
"""

from __future__ import annotations

from typing import ClassVar

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.positions._rope import check_factor, everywhere, from_transformers, keep_all_cost, refuse_beyond_factor
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="Interpolate slow rotary pairs only, and sharpen attention",
    paper="arXiv:2309.00071",
    year=2023,
    needs=("weights", "kv"),
    claim="At the same factor, YaRN has lower perplexity beyond the window than linear interpolation, without training.",
    departures=(
        "no fine-tuning: this room changes no weights",
        "the ramp runs over rounded pair numbers, as in transformers and the reference code, not over turns",
    ),
)
class YaRN(Position):
    fixed: ClassVar[bool] = True

    factor: float = 4.0  # s
    beta_fast: float = 32.0  # β, turns within the window above which a pair is left alone
    beta_slow: float = 1.0  # α, turns below which it is interpolated fully

    def __post_init__(self) -> None:
        check_factor("factor", self.factor)
        if not self.beta_fast > self.beta_slow > 0:
            raise ConfigError.bad_value("beta_fast", self.beta_fast, f"above beta_slow={self.beta_slow}, and both above 0")

    def reach(self, trained_tokens: int) -> int:
        return round(self.factor * trained_tokens)

    def branches(self, asked: Asked) -> list[Branch]:
        refuse_beyond_factor("yarn", asked, self.factor)
        inv_freq, attention = from_transformers(
            "yarn", asked.inv_freq, asked.info.trained_tokens, factor=self.factor, beta_fast=self.beta_fast, beta_slow=self.beta_slow
        )
        return everywhere(asked, inv_freq, attention_scaling=attention)

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape)
