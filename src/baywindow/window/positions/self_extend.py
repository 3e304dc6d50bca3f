"""Self-Extend: exact positions for near tokens, shared positions for groups of far ones.

Paper: Jin et al., 2024, LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning, arXiv 2401.01325.
Reference code read: datamllab/LongLM.

Idea: within the last W tokens nothing changes. Farther away, where only the rough order matters, every ``group_tokens`` (G)
positions share one: key j stands at ⌊j / G⌋, query i at ⌊i / G⌋ + W − ⌊W / G⌋, so that distances join without a jump. The largest
relative position stays inside the trained window up to (L − W) · G + W tokens.

Departs from the paper: nothing known. The window defaults to a quarter of the trained one, the paper's 1,024 of Llama-2's 4,096.

Shapes and units: ``group_tokens`` and ``window_tokens`` in tokens. Two branches over true positions, one softmax.

Cost: two sets of logits over the prompt (2 × attention); keys are rotated again at each forward, twice, O(H · L · D).

Errors: ConfigError for a window that is no multiple of the group (the join would be fractional) or not below the trained
window; ContextLengthError beyond the reach above.
"""

from __future__ import annotations

import math

from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.positions._rope import check_at_least, keep_all_cost, log_scale, refuse_beyond
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="Exact positions near, grouped positions far: no tuning, several times the window",
    paper="arXiv:2401.01325",
    year=2024,
    needs=("weights", "kv"),
    claim="Retrieval stays near its in-window level up to (L - W) * G + W tokens, while plain RoPE drops to about zero beyond L.",
)
class SelfExtend(Position):
    group_tokens: int = 8  # G
    window_tokens: int | None = None  # W; None: a quarter of the trained window, rounded down to a multiple of G
    log_scaled: bool = False  # multiply the logits of query p by max(1, ln(p + 1) / ln L)

    def __post_init__(self) -> None:
        check_at_least("group_tokens", self.group_tokens, 1)
        check_at_least("window_tokens", self.window_tokens, 1)
        if self.window_tokens is not None and self.window_tokens % self.group_tokens:
            raise ConfigError.bad_value("window_tokens", self.window_tokens, f"a multiple of group_tokens={self.group_tokens}")

    def window(self, trained_tokens: int) -> int:
        """W in tokens for a model. Raises ConfigError if it is not below the trained window."""
        quarter = trained_tokens // 4 // self.group_tokens * self.group_tokens
        chosen = quarter if self.window_tokens is None else self.window_tokens
        if not 0 < chosen < trained_tokens:
            raise ConfigError.bad_value("window_tokens", chosen, f"above 0 and below the trained window of {trained_tokens} tokens")
        return chosen

    def reach(self, trained_tokens: int) -> int:
        """How many tokens a sequence may have before a relative position leaves the trained window."""
        window = self.window(trained_tokens)
        return (trained_tokens - window) * self.group_tokens + window

    def branches(self, asked: Asked) -> list[Branch]:
        trained = asked.info.trained_tokens
        window = self.window(trained)
        needed = math.ceil((asked.longest - window) / (trained - window))
        refuse_beyond("self_extend", asked.longest, self.reach(trained), f"set group_tokens={needed} or more")
        scale = log_scale(asked.q_pos, trained) if self.log_scaled else None
        near = Branch(q_at=asked.q_pos, k_at=asked.k_pos, query_scale=scale)
        if asked.longest <= window:
            return [near]
        q_far, k_far = grouped(asked.q_pos, asked.k_pos, self.group_tokens, window)
        return [
            Branch(q_at=near.q_at, k_at=near.k_at, query_scale=scale, pairs=lambda q, k: q - k < window),
            Branch(q_at=q_far, k_at=k_far, query_scale=scale, pairs=lambda q, k: q - k >= window),
        ]

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape, rotations=(shape.kv_heads, shape.kv_heads), extra_attention=1)


def grouped(q_pos: Tensor, k_pos: Tensor, group: int, window: int) -> tuple[Tensor, Tensor]:
    """Grouped positions of queries and keys (section 3.2), the shapes of the inputs."""
    return q_pos // group + (window - window // group), k_pos // group
