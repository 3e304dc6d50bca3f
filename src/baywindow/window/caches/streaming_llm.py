"""StreamingLLM: keep the first few tokens and the most recent ones, renumbered inside the cache.

Paper: Xiao and others, 2023, "Efficient Streaming Language Models with Attention Sinks", arXiv 2309.17453; reference code read:
mit-han-lab/streaming-llm.

Idea: models pour spare attention on the first tokens (sinks). Keep ``sink_tokens`` of them and the last ``budget_tokens`` −
``sink_tokens``; drop the rest at every step; number positions inside the cache 0, 1, 2, …, so no distance ever exceeds the
budget.

Departs from the paper: a prompt attends in full before its middle is dropped, as in the reference code; feed it in chunks with
compression of each chunk to bound memory. Nothing else known.

Shapes and units: tokens per key/value head, the same in all heads and layers; keys are held un-rotated, for their numbers change.

Cost: no arithmetic for choosing; every step rotates the held keys anew.

Errors: ConfigError if the budget is not above ``sink_tokens``. A sequence within the budget is left as it is.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Block
from baywindow.window.caches._cost import budgeted_cost
from baywindow.window.caches._renumber import by_rank
from baywindow.window.caches._votes import at_least
from baywindow.window.caches.base import Moment, Phase, Selector
from baywindow.window.positions.base import Asked


@technique(
    summary="keep the first few tokens and the most recent ones, at every step",
    paper="arXiv:2309.17453",
    year=2023,
    needs=("weights", "kv"),
    claim="With the first tokens kept, perplexity stays flat far beyond the window; the same window without them fails.",
    departures=("a prompt attends in full before its middle is dropped, as in the reference code",),
    slot="reduce",
)
class StreamingLLM(Selector):
    when: ClassVar[frozenset[Phase]] = frozenset({"prefill", "decode"})
    needs_raw_keys: ClassVar[bool] = True

    sink_tokens: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sink_tokens < 0:
            raise ConfigError.bad_value("sink_tokens", self.sink_tokens, "0 or more")
        if self.budget_tokens is not None and self.budget_tokens <= self.sink_tokens:
            raise ConfigError.bad_value("budget_tokens", self.budget_tokens, f"larger than sink_tokens={self.sink_tokens}")

    def budget(self, moment: Moment) -> Tensor:
        return at_least(super().budget(moment), self.sink_tokens + 1)

    def score(self, moment: Moment, block: Block) -> Tensor:
        positions = block.head_positions[:, :1]  # all heads hold the same
        return positions.float().masked_fill(positions < self.sink_tokens, torch.inf)

    def renumber(self, asked: Asked) -> tuple[Tensor, Tensor] | None:
        return by_rank(asked)

    def cost(self, shape: Shape) -> Cost:
        kept = min(self.budget_of(shape.prompt_tokens), shape.prompt_tokens)
        turned = 3 * shape.layers * shape.kv_heads * shape.head_dim * kept  # two products and a sum an element
        return budgeted_cost(self, shape, turned * max(1, shape.generated_tokens))
