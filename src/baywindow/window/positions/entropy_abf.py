"""Entropy-aware ABF, its training-free part: a larger rotary base, and logits that grow with the logarithm of the position.

Paper: Zhang et al., 2024, Extending LLMs' Context Window with 100 Samples, arXiv 2401.07004. Reference code read: GAIR-NLP/Entropy-ABF.

Idea: over more keys the softmax flattens and its entropy drifts from what later layers were trained on. Besides a larger base,
the logits of the query at position p (from 0) are multiplied by max(1, ln(p + 1) / ln L), so nothing changes inside the trained
window L; the first two layers, whose attention is flat anyway, are left out.

Departs from the paper: no fine-tuning (the paper's 100 samples), L is the model's own window, where the released code writes
4,096; and the first layers are really left out, where the released code sets a flag that nothing reads.

Shapes and units: frequencies (F,) in radians a position; the query factor (B, n).

Cost: none beyond stock.

Errors: CapabilityError on a model whose RoPE is scaled already, or whose base is not below ``base``.
"""

from __future__ import annotations

from typing import ClassVar

from baywindow.errors import CapabilityError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.positions._rope import base_of, check_at_least, everywhere, frequencies, keep_all_cost, log_scale
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="A larger rotary base, and logits scaled by the log of the position",
    paper="arXiv:2401.07004",
    year=2024,
    needs=("weights", "kv"),
    claim="At 4 times the window, attention entropy stays closer to its in-window value than with the larger base alone.",
    departures=(
        "no fine-tuning: this room changes no weights",
        "L0 is the model's trained window and the first layers are really exempt: released code fixes 4096 and exempts none",
    ),
)
class EntropyABF(Position):
    fixed: ClassVar[bool] = True

    base: float = 500_000.0  # b'
    unscaled_layers: int = 2  # how many first layers keep their logits

    def __post_init__(self) -> None:
        check_at_least("base", self.base, 2)
        check_at_least("unscaled_layers", self.unscaled_layers, 0)

    def reach(self, trained_tokens: int) -> int:
        return 4 * trained_tokens  # the paper's extension, 4,096 to 16,384

    def branches(self, asked: Asked) -> list[Branch]:
        own = base_of(asked.inv_freq)
        if own >= self.base:
            raise CapabilityError(f"the model's rotary base is {own:.0f} already", hint=f"set base above {own:.0f}")
        scale = log_scale(asked.q_pos, asked.info.trained_tokens) if asked.layer.index >= self.unscaled_layers else None
        return everywhere(asked, frequencies(self.base, len(asked.inv_freq), asked.inv_freq), query_scale=scale)

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape)
