"""Ada-KV: share one layer's budget among its heads by what their scores are worth.

Paper: Feng and others, 2024, "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference",
arXiv 2407.11550; reference code read: FFY0/AdaKV.

Idea: heads that spread their attention need more tokens than heads that look at one place. The layer's best scores, all heads
together, are counted by head; ``floor_fraction`` of the equal share is mixed in, so that no head starves. Each head then keeps its
own best tokens up to its share.

Departs from the paper: nothing known. What a selector keeps in any case (an observation window, sinks) is taken from each head's share
first, as the reference code takes its window. Shares are rounded so that the layer's total is met exactly. Memory of heads that
keep less is really freed (the released code needs a kernel of its own for that; others only mask).

Shapes and units: works on any selector's scores, ``ada_kv + snapkv(budget_tokens=1024)``; the budget stays the mean per key/value head.

Cost: two sorts over heads · tokens a layer.

Errors: RecipeError without a selector to share for, or beside one that drops tokens at every step; ConfigError for a fraction outside
0 to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.caches.base import Allocator


@technique(
    summary="share one layer's budget among its heads by their scores: ada_kv + snapkv",
    paper="arXiv:2407.11550",
    year=2024,
    needs=("weights", "kv"),
    claim="At the same total, sharing the budget by score keeps more attention mass than equal budgets for all heads.",
    slot="allocate",
)
class AdaKV(Allocator):
    floor_fraction: float = 0.2  # the paper's α

    def __post_init__(self) -> None:
        if not 0 <= self.floor_fraction <= 1:
            raise ConfigError.bad_value("floor_fraction", self.floor_fraction, "from 0 to 1")

    def allocate(self, scores: Tensor, counted: Tensor, budget: Tensor) -> Tensor:
        certain = counted & torch.isposinf(scores)
        certain = best(scores, certain, budget[:, None].expand(certain.shape[:2]))  # never more than a head's equal share
        free = counted & ~certain
        equal = budget[:, None] - certain.sum(dim=-1)  # [B, H], what each head's share leaves
        total = equal.sum(dim=-1)
        worth = best_of_all(scores, free, total).sum(dim=-1)
        share = (1 - self.floor_fraction) * worth + self.floor_fraction * equal
        chosen = best(scores, free, share.floor().long())
        rest = best_of_all(scores, free & ~chosen, total - chosen.sum(dim=(1, 2)))  # what rounding left over
        return certain | chosen | rest

    def cost(self, shape: Shape) -> Cost:
        return Cost(flops=0, bytes_kept=0, bytes_read=0)  # sorts, no arithmetic; the selector's cost says what is kept


def best(scores: Tensor, among: Tensor, n: Tensor) -> Tensor:
    """The best ``n`` [B, G] of each group among those where ``among`` [B, G, L]; earlier ones win ties."""
    order = scores.masked_fill(~among, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(-1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order))
    return among & (rank < n[..., None])


def best_of_all(scores: Tensor, among: Tensor, n: Tensor) -> Tensor:
    """The best ``n`` [B] of all heads together: bool [B, H, L]."""
    return best(scores.flatten(1)[:, None], among.flatten(1)[:, None], n[:, None]).view_as(among)
