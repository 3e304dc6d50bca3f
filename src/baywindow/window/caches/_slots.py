"""Slots by what they hold."""

from __future__ import annotations

import torch
from torch import Tensor


def first_slots(here: Tensor, n: int) -> Tensor:
    """The first ``n`` slots where ``here`` [B, H, L] is True: int64 [B, H, n at most]; −1 where a row has fewer."""
    order = (~here).long().argsort(dim=-1, stable=True)[..., :n]
    return torch.where(here.gather(-1, order), order, -1)
