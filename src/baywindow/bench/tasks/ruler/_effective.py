"""The one number that RULER is quoted for: up to which length a model holds what it promises."""

from __future__ import annotations

from collections.abc import Mapping

THRESHOLD = 0.856  # what Llama-2-7B reaches at 4k, the published bar


def effective_length(scores: Mapping[int, Mapping[str, float]], threshold: float = THRESHOLD) -> int | None:
    """The longest length whose average over tasks is above the threshold; None if there is none.

    ``scores[length][task]`` is from 0 to 1. As published, a shorter length that misses the threshold does not matter.
    """
    passed = [length for length, by_task in scores.items() if by_task and sum(by_task.values()) / len(by_task) > threshold]
    return max(passed, default=None)
