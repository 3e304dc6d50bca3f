"""Log-probabilities of words, by the run's model or by a small local one that scores for it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from baywindow.context.compress._units import sentences
from baywindow.context.condensed import Span
from baywindow.context.run import Run
from baywindow.models.base import LanguageModel, Score


def scorer_of(run: Run, name: str | None) -> LanguageModel:
    """The model that scores: the run's own, or the one of this name, loaded once."""
    return run.model if name is None else _loaded(name)


@functools.lru_cache(maxsize=1)  # its weights take seconds to read
def _loaded(name: str) -> LanguageModel:
    from baywindow.models import select

    return select.load(name)


def scored_many(run: Run, scorer: LanguageModel, pairs: Sequence[tuple[str, str]]) -> list[Score] | None:
    """`LanguageModel.score_many`, on the run's meter if it is the run's own model; None if the budget does not allow it."""
    if scorer is not run.model:
        return scorer.score_many(pairs)
    tokens = sum(run.model.count_tokens(prompt) + run.model.count_tokens(text) for prompt, text in pairs)
    if not run.meter.allows(tokens, 0):
        run.note(f"the budget does not allow to score {tokens} tokens; sentences were chosen by shared words instead")
        return None
    found = run.model.score_many(pairs)
    run.meter.charge(tokens, 0)
    return found


def parts_of(scorer: LanguageModel, text: str, beside: str) -> list[Span]:
    """The text in as few stretches of whole sentences as fit the scorer's window together with what stands ``beside`` them."""
    room = max(16, scorer.context_length - scorer.count_tokens(beside) - 8)
    if scorer.count_tokens(text) <= room:
        return [(0, len(text))]
    found: list[Span] = []
    for start, end in sentences(text):
        if found and scorer.count_tokens(text[found[-1][0] : end]) <= room:
            start = found.pop()[0]
        found.append((start, end))
    return found


def per_unit(score: Score, units: Sequence[Span], start: int = 0) -> NDArray[np.float32]:
    """Mean log-probability of the tokens that lie in each unit; ``start`` is where the scored text begins in the units' text.

    A token over several units counts for each of them; a unit without any token gets 0, as if it were certain.
    """
    edges = np.array([(a + start, b + start) for a, b in score.offsets] or np.zeros((0, 2)), dtype=np.int64).reshape(-1, 2)
    found = np.zeros(len(units), dtype=np.float32)
    if not len(edges):
        return found
    sums = np.concatenate([[0.0], np.cumsum(score.logprobs, dtype=np.float64)])
    first = np.searchsorted(edges[:, 1], [a for a, _ in units], "right")
    last = np.searchsorted(edges[:, 0], [b for _, b in units], "left")
    count = np.maximum(last - first, 0)
    return np.where(count > 0, (sums[np.maximum(last, first)] - sums[first]) / np.maximum(count, 1), 0.0).astype(np.float32)
