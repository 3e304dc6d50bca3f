"""SnapKV: keep the prompt tokens that the last queries attend to.

Paper: Li and others, 2024, "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv 2404.14469; reference code read:
FasterDecoding/SnapKV.

Idea: the last ``window_tokens`` queries of the prompt vote, by their softmax weights, for the tokens before them; votes are pooled
over ``kernel_tokens`` neighbours so that phrases survive whole; the best stay, up to ``budget_tokens`` per key/value head, the
window included.

Departs from the paper: votes are averaged over the query heads that share a key/value head, because the paper's code keeps a copy of
the keys for every query head, and a shared head can only keep one set.

Shapes and units: tokens per key/value head; scores float32 [B, H, L]; nothing is sorted in time, what stays keeps its order and its
true position.

Cost: once after the prompt, O(query heads · window · tokens · dim); later steps read the budget instead of everything.

Errors: ConfigError if the budget is not above the window, or the kernel is even. A prompt within the budget is left as it is.
"""

from __future__ import annotations

from torch import Tensor

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Block
from baywindow.window.caches._cost import budgeted_cost, voting_flops
from baywindow.window.caches._votes import at_least, check_window, window_votes
from baywindow.window.caches.base import Moment, Selector


@technique(
    summary="keep the prompt tokens that the last queries attend to",
    paper="arXiv:2404.14469",
    year=2024,
    needs=("weights", "kv"),
    claim="Tokens the end of a prompt attends to are those its answer needs: a planted fact survives at a budget where recency loses it.",
    departures=("votes are averaged over the query heads of a key/value head: a shared head can keep only one set of tokens",),
    slot="reduce",
)
class SnapKV(Selector):
    window_tokens: int = 32  # the paper's observation window
    kernel_tokens: int = 5  # pooling width

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window_tokens, self.kernel_tokens, self.budget_tokens)

    def query_window(self) -> int:
        return self.window_tokens

    def budget(self, moment: Moment) -> Tensor:
        return at_least(super().budget(moment), self.window_tokens + 1)

    def score(self, moment: Moment, block: Block) -> Tensor:
        return window_votes(moment, block, self.kernel_tokens)

    def cost(self, shape: Shape) -> Cost:
        return budgeted_cost(self, shape, voting_flops(shape, self.window_tokens))
