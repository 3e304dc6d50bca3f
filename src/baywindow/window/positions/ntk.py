"""NTK-aware scaling: enlarge the rotary base so that slow pairs are squeezed and fast pairs hardly change.

Paper: none; bloc97, 2023, "NTK-Aware Scaled RoPE allows LLaMA models to have extended context size without any fine-tuning and
minimal perplexity degradation" (a forum post), restated as section 3.1 of YaRN, arXiv 2309.00071.

Idea: with base b · factor^(d / (d − 2)) the slowest pair is interpolated by exactly ``factor`` and the fastest by nothing, so
neighbouring tokens stay apart as in training while far positions come back towards the trained range.

Departs from the paper: nothing known. The frequencies are transformers' own (its ``dynamic`` type, held at the target length:
a base that moves with the length would leave cached keys at old angles).

Shapes and units: ``factor`` = target length / trained length; frequencies (F,) in radians a position.

Cost: none beyond stock.

Errors: ConfigError for a factor below 1; CapabilityError on a model whose RoPE is scaled already; ContextLengthError beyond
factor × trained window.
"""

from __future__ import annotations

from typing import ClassVar

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.positions._rope import check_factor, everywhere, from_transformers, keep_all_cost, refuse_beyond_factor
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="Enlarge the rotary base: slow pairs interpolate, fast pairs stay",
    paper="bloc97 2023; arXiv:2309.00071 section 3.1",
    year=2023,
    needs=("weights", "kv"),
    claim="Without training, an enlarged base degrades less beyond the window than plain RoPE does.",
)
class NTK(Position):
    fixed: ClassVar[bool] = True

    factor: float = 4.0  # α, target over trained length

    def __post_init__(self) -> None:
        check_factor("factor", self.factor)

    def reach(self, trained_tokens: int) -> int:
        return round(self.factor * trained_tokens)

    def branches(self, asked: Asked) -> list[Branch]:
        refuse_beyond_factor("ntk", asked, self.factor)
        window = asked.info.trained_tokens
        inv_freq, _ = from_transformers("dynamic", asked.inv_freq, window, round(self.factor * window), factor=1.0)
        return everywhere(asked, inv_freq)

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape)
