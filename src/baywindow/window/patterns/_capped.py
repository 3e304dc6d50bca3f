"""One distance for everything that lies beyond a window."""

from __future__ import annotations

from dataclasses import replace

import torch

from baywindow.window.positions.base import Asked, Branch


def capped_beyond(asked: Asked, window_tokens: int, limit: int) -> list[Branch]:
    """True distances inside the window; a key outside it stands un-rotated, and the query as if at position ``limit``."""
    plain = Branch(q_at=asked.q_pos.clamp(min=0), k_at=asked.k_pos.clamp(min=0))
    if asked.longest <= window_tokens:
        return [plain]
    capped = replace(
        plain,
        q_at=torch.full_like(asked.q_pos, min(limit, asked.longest - 1)),
        k_at=torch.zeros_like(asked.k_pos),
        pairs=lambda q, k: q - k >= window_tokens,
    )
    return [plain, capped]
