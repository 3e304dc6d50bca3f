"""PyramidKV: SnapKV's choice, with more tokens for the lower layers and fewer for the upper ones.

Paper: Cai and others, 2024, "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling", arXiv 2406.02069;
reference code read: Zefan-Cai/KVCache-Factory.

Idea: lower layers spread their attention, upper ones narrow it to a few tokens. Budgets fall by equal steps from the first layer to
the last, the last getting 1/``beta`` of the mean, and add up to the same total as a flat budget. Which tokens stay is
decided as in SnapKV.

Departs from the paper: sliding-window layers are not counted as layers of the pyramid, because nothing is dropped there. Votes are
averaged over the query heads of a key/value head.

Shapes and units: ``budget_tokens`` is the mean per key/value head over the layers, window included.

Cost: that of SnapKV.

Errors: ConfigError for a budget not above the window, an even kernel, or beta below 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Block
from baywindow.window.caches._cost import budgeted_cost, voting_flops
from baywindow.window.caches._votes import at_least, check_window, window_votes
from baywindow.window.caches.base import Moment, Selector


@technique(
    summary="SnapKV's choice, with larger budgets in lower layers and smaller ones above",
    paper="arXiv:2406.02069",
    year=2024,
    needs=("weights", "kv"),
    claim="At the same total, budgets that fall from layer to layer serve at least as well as equal ones.",
    departures=(
        "sliding-window layers are not layers of the pyramid: nothing is dropped there",
        "votes are averaged over the query heads of a key/value head: a shared head can keep only one set of tokens",
    ),
    slot="reduce",
)
class PyramidKV(Selector):
    window_tokens: int = 8  # the reference code's observation window
    kernel_tokens: int = 5
    beta: float = 20.0  # the mean over the last layer's share

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window_tokens, self.kernel_tokens, self.budget_tokens)
        if self.beta < 1:
            raise ConfigError.bad_value("beta", self.beta, "at least 1")

    def query_window(self) -> int:
        return self.window_tokens

    def budget(self, moment: Moment) -> Tensor:
        layers = [layer.index for layer in moment.info.full_layers]
        mean = at_least(super().budget(moment), self.window_tokens + 1)
        rows = [
            pyramid(int(b) - self.window_tokens, int(n) - self.window_tokens, len(layers), self.beta)[layers.index(moment.layer.index)]
            for b, n in zip(mean.tolist(), moment.seen.tolist(), strict=True)
        ]
        return torch.tensor(rows, device=mean.device) + self.window_tokens

    def score(self, moment: Moment, block: Block) -> Tensor:
        return window_votes(moment, block, self.kernel_tokens)

    def cost(self, shape: Shape) -> Cost:
        return budgeted_cost(self, shape, voting_flops(shape, self.window_tokens))


def pyramid(mean: int, longest: int, layers: int, beta: float) -> list[int]:
    """Budgets of all layers, first to last: equal steps down, mean ``mean``, none above ``longest`` (the tokens there are).

    If the first layer's would exceed what there is, it gets all of it and the last one what the total leaves, as in the reference code.
    """
    if layers == 1 or mean >= longest:
        return [mean] * layers
    last = mean / beta
    first = 2 * mean - last
    if first > longest:
        first, last = float(longest), float(2 * mean - longest)
    exact = [first - i * (first - last) / (layers - 1) for i in range(layers)]
    ends = [round(sum(exact[: i + 1])) for i in range(layers)]  # rounding the running sum keeps the total
    return [b - a for a, b in zip([0, *ends], ends, strict=False)]
