"""What SnapKV and its descendants share: the last queries vote for earlier tokens, neighbours share their votes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from baywindow.errors import ConfigError
from baywindow.window.base import group_mean
from baywindow.window.block import Block
from baywindow.window.caches.base import Moment


def window_votes(moment: Moment, block: Block, kernel: int) -> Tensor:
    """Votes of the window's queries for each token before the window, pooled over ``kernel`` neighbours: float32 [B, H, L]; the window's
    own tokens get +inf. A row with fewer tokens than the window has as many voters as it has tokens."""
    weights = group_mean(moment.weights(moment.queries, moment.q_pos, block), moment.layer.kv_heads)
    voters = (moment.q_pos >= 0)[:, None, :, None]
    votes = (weights * voters).sum(dim=2) / voters.sum(dim=2).clamp(min=1)
    first = torch.where(moment.q_pos >= 0, moment.q_pos, torch.iinfo(torch.long).max).amin(dim=1)
    in_window = (block.head_positions >= first[:, None, None]) & ~moment.protected(block)
    votes = votes.masked_fill(in_window | moment.protected(block), 0.0)
    pooled = avg_pool1d(votes, kernel, stride=1, padding=kernel // 2)  # zeros beyond the ends, as in the reference code
    return pooled.masked_fill(in_window, torch.inf)


def check_window(window_tokens: int, kernel_tokens: int, budget_tokens: int | None) -> None:
    """Raise ConfigError for a window that is empty or does not fit the budget, or a kernel without a middle."""
    if window_tokens < 1:
        raise ConfigError.bad_value("window_tokens", window_tokens, "at least 1")
    if kernel_tokens < 1 or kernel_tokens % 2 == 0:
        raise ConfigError.bad_value("kernel_tokens", kernel_tokens, "odd and at least 1")
    if budget_tokens is not None and budget_tokens <= window_tokens:
        raise ConfigError.bad_value("budget_tokens", budget_tokens, f"larger than window_tokens={window_tokens}")


def at_least(budget: Tensor, least: int) -> Tensor:
    """A budget given as a fraction of a short prompt still holds what always stays."""
    return budget.clamp(min=least)
