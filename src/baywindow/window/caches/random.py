"""Random: keep tokens drawn at random. The rival that every other cache must beat.

Paper: none; the baseline of eviction papers.

Idea: every token of every key/value head gets a number that depends on its position, layer, head and the seed, and on nothing
else; the highest stay. The last token always stays, so that generation has something to start from.

Departs from the paper: nothing known.

Shapes and units: tokens per key/value head; scores float32 [B, H, L] in [0, 1). The number of a token does not depend on padding,
batch or chunking, so a row gets what it gets alone.

Cost: O(heads · tokens), once after the prompt.

Errors: those of the budget. A prompt within the budget is left as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Block
from baywindow.window.caches._cost import budgeted_cost
from baywindow.window.caches.base import Moment, Selector

MASK32 = 0xFFFFFFFF


@technique(
    summary="keep tokens drawn at random: the rival every other cache must beat",
    needs=("weights", "kv"),
    claim="A random token is kept with a probability equal to the share of the budget, wherever it stands.",
    slot="reduce",
)
class Random(Selector):
    seed: int = 0

    def score(self, moment: Moment, block: Block) -> Tensor:
        positions = block.head_positions
        heads = torch.arange(positions.shape[1], device=positions.device)[None, :, None]
        drawn = drawn_at(positions, heads, self.seed * 1_000_003 + moment.layer.index)
        last = moment.seen[:, None, None] - 1
        return drawn.masked_fill(positions == last, torch.inf)

    def cost(self, shape: Shape) -> Cost:
        return budgeted_cost(self, shape, 0)


def drawn_at(positions: Tensor, heads: Tensor, seed: int) -> Tensor:
    """A number in [0, 1) for each position and head: an integer hash (32-bit multiply and xor-shift rounds), not a stream, so that it
    is the same on every device and in every batch."""
    x = (positions.clamp(min=0) * 0x9E3779B1 + heads * 0x85EBCA6B + (seed & MASK32) * 0xC2B2AE35) & MASK32
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> shift)) * factor) & MASK32
    x = x ^ (x >> 16)
    return (x >> 8).float() / float(1 << 24)  # 24 bits are exact in float32
