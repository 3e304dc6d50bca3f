"""Ada-KV: share one layer's budget among its heads by what their scores are worth.

Paper: Feng and others, 2024, "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference",
arXiv 2407.11550; reference code read: FFY0/AdaKV.

Idea: heads that spread their attention need more tokens than heads that look at one place. Every head keeps ``floor_fraction`` of the
equal share for certain; the rest of the layer's budget goes to the best remaining scores of all heads together.

Departs from the paper: nothing known. Memory of heads that keep less is really freed (the released code needs its own kernel; others
only mask).

Shapes and units: works on any selector's scores, ``ada_kv + snapkv(budget_tokens=1024)``; the budget stays the mean per key/value head.

Cost: one sort over heads · tokens a layer.

Errors: RecipeError without a selector to share for; ConfigError for a fraction outside 0 to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.caches.base import Allocator, top_of_each_head


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
        heads = scores.shape[1]
        certain = top_of_each_head(scores, counted, (budget * self.floor_fraction).long())
        raised = scores.masked_fill(certain, torch.inf)
        flat = top_of_each_head(raised.flatten(1)[:, None], counted.flatten(1)[:, None], budget * heads)
        return flat.view_as(counted)

    def cost(self, shape: Shape) -> Cost:
        return Cost(flops=0, bytes_kept=0, bytes_read=0)  # sorts, no arithmetic; the selector's cost says what is kept
