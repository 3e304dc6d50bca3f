"""H2O: keep the tokens that gathered most attention so far (heavy hitters), and the most recent ones.

Paper: Zhang and others, 2023, "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
arXiv 2306.14048; reference code read: FMInference/H2O.

Idea: sum up, for every held token, the softmax weights all queries gave it. Half the budget goes to the largest sums, half to the
most recent tokens; the rest is dropped, at every step. A dropped token's sum is forgotten.

Departs from the paper: sums are averaged over the query heads that share a key/value head (the paper's models had one key/value head a
query head). A prompt attends in full before it is cut, as in the reference code.

Shapes and units: tokens per key/value head; sums float32 [B, H, L], kept beside the tokens and dropped with them.

Cost: the softmax weights of every query are computed once more than attention itself needs: O(query heads · tokens² · dim) for the
prompt. That is the method's known price.

Errors: ConfigError for a share of recent tokens outside 0 to 1; RecipeError beside a cache that moves tokens away, for the sums lie
beside the tokens. A sequence within the budget is left as it is.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import Cost, Shape, group_mean
from baywindow.window.block import Block
from baywindow.window.caches._cost import budgeted_cost
from baywindow.window.caches.base import Moment, Mover, Phase, Seen, Selector

ROWS = 128  # query rows whose weights are held at once
MASS = "h2o_mass"


@technique(
    summary="keep the tokens that gathered most attention so far, and the most recent ones",
    paper="arXiv:2306.14048",
    year=2023,
    needs=("weights", "kv"),
    claim="A small set of tokens gathers most attention; keeping it with the recent ones loses less than recent ones alone.",
    departures=(
        "sums are averaged over the query heads of a key/value head: a shared head can keep only one set of tokens",
        "a prompt attends in full before it is cut, as in the reference code",
    ),
    slot="reduce",
)
class H2O(Selector):
    when: ClassVar[frozenset[Phase]] = frozenset({"prefill", "decode"})
    watches: ClassVar[bool] = True

    recent_fraction: float = 0.5  # of the budget; the paper halves it

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.recent_fraction <= 1:
            raise ConfigError.bad_value("recent_fraction", self.recent_fraction, "from 0 to 1")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        super().check_with(others)
        if mover := next((o for o in others if isinstance(o, Mover)), None):
            raise RecipeError(
                f"{self.card.name} and {mover.card.name} cannot stand in one recipe: {self.card.name} adds to a sum beside every token at "
                "every step, so the tokens must stay where they are",
                hint="choose a cache that acts once after the prompt, e.g. snapkv",
            )

    def watch(self, seen: Seen) -> None:
        total = seen.tags.get(MASS)
        if total is None:
            total = seen.block.keys.new_zeros(seen.block.keys.shape[:3], dtype=torch.float32)
        n = seen.q_pos.shape[1]
        for start in range(0, n, ROWS):
            stop = min(n, start + ROWS)
            real = (seen.q_pos[:, start:stop] >= 0)[:, None, :, None]
            total = total + group_mean((seen.weights(start, stop) * real).sum(dim=2), seen.layer.kv_heads)
        seen.tags[MASS] = total

    def score(self, moment: Moment, block: Block) -> Tensor:
        recent = (self.budget(moment) * self.recent_fraction).long()
        late = block.head_positions >= (moment.seen - recent)[:, None, None]
        return block.tags[MASS].masked_fill(late, torch.inf)

    def cost(self, shape: Shape) -> Cost:
        kept = min(self.budget_of(shape.prompt_tokens), shape.prompt_tokens)
        pairs = shape.prompt_tokens**2 + shape.generated_tokens * kept
        return budgeted_cost(self, shape, 2 * shape.layers * shape.q_heads * shape.head_dim * pairs)
