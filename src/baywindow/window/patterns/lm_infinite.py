"""LM-Infinite: every query sees the first tokens and a window, and never a distance it was not trained for.

Paper: Han and others, 2023, "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language Models", arXiv 2308.16137; reference
code read: Glaciohound/LM-Infinite.

Idea: a Λ-shaped mask leaves the first ``global_tokens`` and the last ``local_tokens``. Window pairs keep their true distance. A first
token that lies outside the window is met at the constant distance ``limit_tokens``, as in the reference code: its key stands
un-rotated, the query as if at that position.

Departs from the paper: the optional re-insertion of the k best middle tokens for the last query is not built; it is off in the
paper's main results. The mask alone frees no memory; a cache that drops tokens can stand beside it.

Shapes and units: tokens; the same in all heads and full-attention layers.

Cost: attention over window and first tokens only is possible; this kernel still computes masked pairs, so nothing is saved yet.

Errors: ConfigError for a window below 1, RecipeError beside a position scheme (it brings its own angles).
"""

from __future__ import annotations

from torch import Tensor

from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import UNLIMITED_TOKENS, Cost, Shape
from baywindow.window.patterns._capped import capped_beyond
from baywindow.window.patterns.base import Pattern
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="each query sees the first tokens and a window, at distances it was trained for",
    paper="arXiv:2308.16137",
    year=2023,
    needs=("weights", "kv"),
    claim="Beyond the trained length perplexity stays flat with first tokens, window and capped distance; plain RoPE explodes.",
    departures=("the optional top-k of middle tokens for the last query is not built; it is off in the paper's main results",),
)
class LMInfinite(Pattern):
    global_tokens: int = 10
    local_tokens: int | None = None  # None: the window the model was trained for
    limit_tokens: int | None = None  # None: as local_tokens

    def __post_init__(self) -> None:
        if self.global_tokens < 0:
            raise ConfigError.bad_value("global_tokens", self.global_tokens, "0 or more")
        for name in ("local_tokens", "limit_tokens"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError.bad_value(name, value, "at least 1")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if scheme := next((o for o in others if isinstance(o, Position)), None):
            raise RecipeError(
                f"lm_infinite and {scheme.card.name} cannot stand in one recipe: both say at which distance tokens meet",
                hint="choose one of them",
            )

    def visible(self, asked: Asked, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return (k_pos < self.global_tokens) | (q_pos - k_pos < self._local(asked))

    def reach(self, trained_tokens: int) -> int:
        return UNLIMITED_TOKENS

    def branches(self, asked: Asked) -> list[Branch]:
        local = self._local(asked)
        return capped_beyond(asked, local, self.limit_tokens or local)

    def _local(self, asked: Asked) -> int:
        return self.local_tokens or asked.info.trained_tokens

    def cost(self, shape: Shape) -> Cost:
        kept = shape.prompt_tokens * shape.token_bytes
        return Cost(flops=shape.attention_flops(shape.prompt_tokens, shape.prompt_tokens) // 2, bytes_kept=kept, bytes_read=kept)
