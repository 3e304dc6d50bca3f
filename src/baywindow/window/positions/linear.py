"""Linear position interpolation: squeeze positions into the trained window.

Paper: Chen et al., 2023, Extending Context Window of Large Language Models via Positional Interpolation, arXiv 2306.15595.

Idea: a model fails at positions it never saw, so position m of a longer text is given the angles of m / factor. All angles are
again inside the trained range; what suffers is resolution, for neighbours now stand closer than they ever did in training.

Departs from the paper: the paper fine-tunes for about a thousand steps after interpolating; here the model is used as it is.

Shapes and units: ``factor`` = target length / trained length; frequencies (F,) in radians a position.

Cost: none beyond stock: frequencies change, keys are rotated once, when they are stored.

Errors: ConfigError for a factor below 1; ContextLengthError beyond factor × trained window.
"""

from __future__ import annotations

from typing import ClassVar

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.positions._rope import check_factor, everywhere, keep_all_cost, refuse_beyond_factor
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="Squeeze positions linearly into the trained window",
    paper="arXiv:2306.15595",
    year=2023,
    needs=("weights", "kv"),
    claim="Beyond the trained window, interpolated positions keep perplexity bounded where plain RoPE's explodes.",
    departures=("no fine-tuning after interpolating: this room changes no weights",),
)
class Linear(Position):
    fixed: ClassVar[bool] = True

    factor: float = 4.0  # L' / L, target over trained length

    def __post_init__(self) -> None:
        check_factor("factor", self.factor)

    def reach(self, trained_tokens: int) -> int:
        return round(self.factor * trained_tokens)

    def branches(self, asked: Asked) -> list[Branch]:
        refuse_beyond_factor("linear", asked, self.factor)
        # Dividing frequencies is the same as dividing positions, and works on a RoPE that is scaled already.
        return everywhere(asked, asked.inv_freq / self.factor)

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape)
