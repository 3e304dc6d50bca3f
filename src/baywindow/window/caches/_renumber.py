"""Positions inside a cache: the held tokens numbered 0, 1, 2, … in their order."""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.window.positions.base import Asked


def by_rank(asked: Asked) -> tuple[Tensor, Tensor]:
    """Query and key positions as ranks among what is held, holes left out (−1 stays −1).

    New tokens stand last in every row and head; a query's rank is that of its own key. Heads must hold equally many tokens.
    """
    held = asked.k_pos >= 0
    ranks = torch.where(held, held.long().cumsum(dim=-1) - 1, -1)
    of_row = ranks if ranks.dim() == 2 else ranks[:, 0]
    own = of_row[:, of_row.shape[1] - asked.q_pos.shape[1] :]
    return torch.where(asked.q_pos >= 0, own, -1), ranks
