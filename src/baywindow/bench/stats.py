"""Intervals and paired comparisons. Everything is drawn from a fixed seed, so the same rows give the same report.

An interval is a 95 % percentile bootstrap of the mean. Where all values are equal a bootstrap would claim certainty: for shares that
are all 0 or all 1 the exact binomial bound is used, otherwise a single value stands alone with no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
LEVEL = 0.95
SMALLEST_N = 5  # below it no interval is given and no difference claimed


@dataclass(frozen=True)
class Interval:
    """A mean with its interval and the number of samples; ``low`` and ``high`` are None where none can be given."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, its interval, and the share of random sign changes that give one at least as large (p)."""

    interval: Interval
    p: float

    @property
    def seen(self) -> bool:
        """Whether there is a difference at all: its interval does not hold 0, and the paired test agrees (for few skewed values the
        interval alone is too narrow)."""
        low, high = self.interval.low, self.interval.high
        return low is not None and high is not None and (low > 0 or high < 0) and self.p < 1 - LEVEL


def interval(groups: Mapping[str, Sequence[float]] | Sequence[float]) -> Interval | None:
    """Of the mean, or of the mean of group means (a benchmark's average over its tasks); None without values.

    Groups are resampled each by itself.
    """
    named = groups if isinstance(groups, Mapping) else {"": groups}
    arrays = [np.asarray(values, dtype=float) for values in named.values() if len(values)]
    if not arrays:
        return None
    mean, n = float(np.mean([a.mean() for a in arrays])), sum(len(a) for a in arrays)
    if n < SMALLEST_N:
        return Interval(mean, None, None, n)
    values = np.concatenate(arrays)
    if np.all(values == values[0]):
        return _constant(mean, n)
    low, high = np.quantile(_means(arrays), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high), n)


def _constant(mean: float, n: int) -> Interval:
    """Exact (Clopper-Pearson) bounds when all of n shares are 0 or all are 1; no interval for another constant."""
    margin = 1 - ((1 - LEVEL) / 2) ** (1 / n)
    if mean == 0.0:
        return Interval(0.0, 0.0, margin, n)
    if mean == 1.0:
        return Interval(1.0, 1 - margin, 1.0, n)
    return Interval(mean, None, None, n)


def _means(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Bootstrap means of group means, shape (resample,)."""
    draw = np.random.default_rng(0)
    groups = [a[draw.integers(0, len(a), size=(RESAMPLES, len(a)))].mean(axis=1) for a in arrays]
    found: NDArray[np.float64] = np.mean(groups, axis=0)
    return found


def difference(one: Mapping[tuple[object, ...], float], other: Mapping[tuple[object, ...], float]) -> Difference | None:
    """``one`` less ``other`` on the samples that both have, by key; None without a common sample.

    Equal values on all common samples are no difference (interval 0 to 0), however few they are.
    """
    common = sorted(one.keys() & other.keys(), key=str)
    if not common:
        return None
    values = np.array([one[k] - other[k] for k in common])
    mean, n = float(values.mean()), len(values)
    if np.all(values == 0):
        return Difference(Interval(0.0, 0.0, 0.0, n), 1.0)
    if n < SMALLEST_N:
        return Difference(Interval(mean, None, None, n), 1.0)
    low, high = np.quantile(_means([values]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(RESAMPLES, n))
    extreme = np.abs((signs * values).mean(axis=1)) >= abs(mean) - 1e-12
    return Difference(Interval(mean, float(low), float(high), n), float((extreme.sum() + 1) / (RESAMPLES + 1)))
