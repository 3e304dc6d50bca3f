"""KeyDiff: keep the keys that are least like the average key. No attention weights needed.

Paper: Park and others, 2025, "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in Resource-Constrained
Environments", arXiv 2504.15364.

Idea: keys that point elsewhere than most tend to gather attention. The anchor of a head is the mean of its unit-length keys; the
tokens whose keys have the smallest cosine similarity to it stay.

Departs from the paper: tokens that are generated stay, as in kvpress; the paper goes on evicting. The choice is made once after the
prompt, or after each chunk where chunks are compressed, which is the paper's setting.

Shapes and units: tokens per key/value head; scores float32 [B, H, L]; keys are taken rotated.

Cost: O(key/value heads · tokens · dim), once after the prompt.

Errors: those of the budget. A prompt within the budget is left as it is.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Block
from baywindow.window.caches._cost import budgeted_cost
from baywindow.window.caches.base import Moment, Selector


@technique(
    summary="keep the keys that are least like the average key",
    paper="arXiv:2504.15364",
    year=2025,
    needs=("weights", "kv"),
    claim="Without looking at attention, keeping the keys farthest from their mean keeps a distinctive token that recency loses.",
    departures=("generated tokens stay: the budget is the prompt's, so that packing, moving and sharing of budgets combine with it",),
    slot="reduce",
)
class KeyDiff(Selector):
    def score(self, moment: Moment, block: Block) -> Tensor:
        keys = normalize(moment.keys(block).float(), dim=-1)
        counted = ((block.head_positions >= 0) & ~moment.protected(block))[..., None]
        anchor = (keys * counted).sum(dim=2, keepdim=True) / counted.sum(dim=2, keepdim=True).clamp(min=1)
        return -cosine_similarity(keys, anchor, dim=-1)

    def cost(self, shape: Shape) -> Cost:
        return budgeted_cost(self, shape, 8 * shape.layers * shape.kv_heads * shape.head_dim * shape.prompt_tokens)
