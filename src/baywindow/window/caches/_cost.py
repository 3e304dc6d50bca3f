"""Closed forms that caches share."""

from __future__ import annotations

from baywindow.budget import Budgeted
from baywindow.window.base import Cost, Shape


def budgeted_cost(part: Budgeted, shape: Shape, flops: int) -> Cost:
    """A cache that holds its budget after the prompt, every head of every layer alike."""
    kept = min(part.budget_of(shape.prompt_tokens), shape.prompt_tokens)
    return Cost(flops=flops, bytes_kept=kept * shape.token_bytes, bytes_read=kept * shape.token_bytes)


def voting_flops(shape: Shape, voters: int) -> int:
    """q·k of ``voters`` queries with the whole prompt in all layers, multiply-adds × 2."""
    return 2 * shape.layers * shape.q_heads * shape.head_dim * min(voters, shape.prompt_tokens) * shape.prompt_tokens
