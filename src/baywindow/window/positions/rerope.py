"""ReRoPE: beyond a window every key stands at the same distance (or, leaky, drifts away slowly).

Paper: Su Jianlin, 2023, "Transformer upgrade road 12: ReRoPE for infinite extrapolation" (blog, kexue.fm/archives/9708).
Reference code read: bojone/rerope.

Idea: relative positions below w are kept, all others are set to w, so nothing unseen ever occurs however long the text. Far keys
are then told apart by content alone. The leaky form lets distance grow on with slope 1 / ``leak`` past w, keeping rough order.

Departs from the paper: nothing known. The window defaults to an eighth of the trained one, the released 512 of 4,096; the logits
of query p are multiplied by max(1, ln(p + 1) / ln L) as in the released code.

Shapes and units: ``window_tokens`` in tokens; two branches over true positions, one softmax.

Cost: two sets of logits over the prompt (2 × attention); near keys are rotated again at each forward, and far ones in the leaky
form, O(H · L · D).

Errors: ConfigError for a window not below the trained one, or a leak not above 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import UNLIMITED_TOKENS, Cost, Shape
from baywindow.window.positions._rope import check_at_least, keep_all_cost, log_scale, refuse_beyond
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="Clip relative positions at a window: nothing unseen at any length",
    paper="kexue.fm/archives/9708",
    year=2023,
    needs=("weights", "kv"),
    claim="Loss keeps falling, or stays level, as the context grows beyond the trained window, where plain RoPE's loss rises.",
)
class ReRoPE(Position):
    window_tokens: int | None = None  # w; None: an eighth of the trained window
    leak: float | None = None  # k of Leaky ReRoPE; None: infinite, plain ReRoPE
    log_scaled: bool = True

    def __post_init__(self) -> None:
        check_at_least("window_tokens", self.window_tokens, 1)
        if self.leak is not None and not (math.isfinite(self.leak) and self.leak > 1):
            raise ConfigError.bad_value("leak", self.leak, "above 1, or None for plain ReRoPE")

    def window(self, trained_tokens: int) -> int:
        """w in tokens for a model. Raises ConfigError if it is not below the trained window."""
        chosen = max(1, trained_tokens // 8) if self.window_tokens is None else self.window_tokens
        if chosen >= trained_tokens:
            raise ConfigError.bad_value("window_tokens", chosen, f"below the trained window of {trained_tokens} tokens")
        return chosen

    def reach(self, trained_tokens: int) -> int:
        if self.leak is None:
            return UNLIMITED_TOKENS
        window = self.window(trained_tokens)
        return round((trained_tokens - window) * self.leak) + window

    def branches(self, asked: Asked) -> list[Branch]:
        trained = asked.info.trained_tokens
        window = self.window(trained)
        if self.leak is not None:
            needed = math.ceil((asked.longest - window) / (trained - window))
            refuse_beyond("rerope", asked.longest, self.reach(trained), f"set leak={needed} or more, or None")
        scale = log_scale(asked.q_pos, trained) if self.log_scaled else None
        if asked.longest <= window:
            return [Branch(q_at=asked.q_pos, k_at=asked.k_pos, query_scale=scale)]
        q_far, k_far = rectified(asked.q_pos, asked.k_pos, window, self.leak)
        return [
            Branch(q_at=asked.q_pos, k_at=asked.k_pos, query_scale=scale, pairs=lambda q, k: q - k < window),
            Branch(q_at=q_far, k_at=k_far, query_scale=scale, pairs=lambda q, k: q - k >= window),
        ]

    def cost(self, shape: Shape) -> Cost:
        # Plain ReRoPE's far keys stand at 0: no rotation.
        rotations = (shape.kv_heads,) if self.leak is None else (shape.kv_heads, shape.kv_heads)
        return keep_all_cost(shape, rotations=rotations, extra_attention=1)


def rectified(q_pos: Tensor, k_pos: Tensor, window: int, leak: float | None) -> tuple[Tensor, Tensor]:
    """Positions whose differences are w (``leak`` None), or w + (distance − w) / leak; shapes of the inputs."""
    if leak is None:
        return torch.full_like(q_pos, window), torch.zeros_like(k_pos)
    return q_pos.float() / leak + window * (1 - 1 / leak), k_pos.float() / leak
