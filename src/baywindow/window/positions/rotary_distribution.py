"""DPRoPE: for each rotary pair, interpolate or not, whichever disturbs the distribution of its angles less.

Paper: Wu et al., 2024, Extending Context Window of Large Language Models from a Distributional Perspective, arXiv 2410.01490.
Reference code read: 1180301012/DPRoPE.

Idea: over the trained window each pair's angle, modulo a turn, follows some histogram. Over the target length it follows another:
once with its own frequency, once with frequency / factor. The choice whose histogram has the smaller Kullback-Leibler divergence
from the trained one is taken, pair by pair.

Departs from the paper: no fine-tuning. Counts, start count and mean over bins are those of the released code, for the choice hangs
on them: a bin that the longer text fills and training never did costs nearly nothing, one it leaves empty costs much.

Shapes and units: ``factor`` = target length / trained length; ``bins`` over one turn; frequencies (F,) in radians a position.

Cost: O(F · factor · L) once per model and setting; none beyond stock later.

Errors: ConfigError for options out of range; ContextLengthError beyond factor × trained window.
"""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.positions._rope import check_at_least, check_factor, everywhere, keep_all_cost, refuse_beyond_factor
from baywindow.window.positions.base import Asked, Branch, Position

START_COUNT = float(np.finfo(np.float16).tiny)  # of every bin, so that no logarithm is of zero


@technique(
    summary="Interpolate a rotary pair only if that disturbs its angles less",
    paper="arXiv:2410.01490",
    year=2024,
    needs=("weights", "kv"),
    claim="Choosing per pair, the total disturbance is no greater than with linear interpolation or plain extrapolation.",
    departures=("no fine-tuning: this room changes no weights",),
)
class DPRoPE(Position):
    fixed: ClassVar[bool] = True

    factor: float = 4.0  # s
    bins: int = 360  # b, intervals of a turn

    def __post_init__(self) -> None:
        check_factor("factor", self.factor)
        check_at_least("bins", self.bins, 2)

    def reach(self, trained_tokens: int) -> int:
        return round(self.factor * trained_tokens)

    def branches(self, asked: Asked) -> list[Branch]:
        refuse_beyond_factor("rotary_distribution", asked, self.factor)
        own = tuple(asked.inv_freq.tolist())
        chosen = chosen_factors(own, asked.info.trained_tokens, self.factor, self.bins)
        return everywhere(asked, asked.inv_freq / torch.tensor(chosen, dtype=torch.float32, device=asked.inv_freq.device))

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape)


@functools.lru_cache(maxsize=32)
def chosen_factors(inv_freq: tuple[float, ...], trained_tokens: int, factor: float, bins: int) -> tuple[float, ...]:
    """For each pair 1 (left alone) or ``factor`` (interpolated); a tie leaves it alone."""
    alone, squeezed = (disturbance(inv_freq, trained_tokens, factor, s, bins) for s in (1.0, factor))
    return tuple(1.0 if a <= b else factor for a, b in zip(alone, squeezed, strict=True))


def disturbance(inv_freq: tuple[float, ...], trained_tokens: int, factor: float, squeeze: float, bins: int) -> NDArray[np.float64]:
    """For each pair, KL(trained ‖ longer) over the bins, averaged over them: (F,), with frequencies divided by ``squeeze``."""
    longer_tokens = round(factor * trained_tokens)
    out = np.empty(len(inv_freq))
    for i, own in enumerate(inv_freq):
        p = histogram(own, trained_tokens, bins)
        q = histogram(own / squeeze, longer_tokens, bins)
        out[i] = float(np.mean(p * np.log(p / q)))
    return out


def histogram(frequency: float, tokens: int, bins: int) -> NDArray[np.float64]:
    """Share of positions 0 … tokens − 1 whose angle falls into each bin of a turn, (bins,), every bin started at `START_COUNT`."""
    turns = np.arange(tokens) * frequency / (2 * np.pi)
    place = np.minimum((turns % 1.0 * bins).astype(np.int64), bins - 1)
    return (np.bincount(place, minlength=bins) + START_COUNT) / tokens
