"""Levels that are not evenly spaced: where 2^bits values should stand so that rounding to them loses least.

K-means in one dimension. It starts at the best levels of a histogram, found exactly, so it does not depend on a lucky start; then Lloyd's
rounds on the values themselves: they are sorted once, and every round reads the weighted mean between two borders off running sums, so
millions of values cost a few searches a round.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GRID = 20001  # points that stand for a density
BINS = 512  # of the histogram that the search starts with


def best_levels(values: Floats, weights: Floats, count: int, rounds: int = 50) -> Floats:
    """``count`` ascending levels [count] near the least weighted squared distance to ``values`` [n] (``weights`` [n] ≥ 0, not all 0)."""
    return best_of_each(values, weights, (count,), rounds)[0]


def best_of_each(values: Floats, weights: Floats, counts: Sequence[int], rounds: int = 50) -> list[Floats]:
    """The same for several numbers of levels, which share the sorting and the search for a start."""
    order = np.argsort(values, kind="stable")
    x, w = values[order], weights[order]
    mass = np.concatenate([[0.0], np.cumsum(w)])
    moment = np.concatenate([[0.0], np.cumsum(w * x)])
    found = []
    for levels in _best_of_bins(x, w, counts):
        for _ in range(rounds):
            borders = np.searchsorted(x, (levels[1:] + levels[:-1]) / 2)
            ends = np.concatenate([[0], borders, [len(x)]])
            held = np.diff(mass[ends])
            means = np.divide(np.diff(moment[ends]), held, out=levels.copy(), where=held > 0)  # a level without values stays
            if np.array_equal(means, levels):
                break
            levels = means
        found.append(np.sort(levels))
    return found


def _best_of_bins(x: Floats, w: Floats, counts: Sequence[int]) -> list[Floats]:
    """The best levels for the histogram of ``x``: the cheapest cut into so many intervals, by dynamic programming over `BINS` bins. One
    search serves all ``counts``: it goes on from the best cuts into one fewer."""
    sums = [np.concatenate([[0.0], np.cumsum(h)]) for h in (np.histogram(x, BINS, weights=w * x**power)[0] for power in range(3))]
    mass, moment, square = (s[None, :] - s[:, None] for s in sums)  # of the bins from i to j
    means = np.divide(moment, mass, out=np.zeros_like(mass), where=mass > 0)
    cost = np.where(np.tri(BINS + 1, dtype=bool), np.inf, square - moment * means)
    best, cuts = cost[0], []
    for _ in range(max(counts) - 1):
        reached = best[:, None] + cost
        cuts.append(reached.argmin(axis=0))
        best = reached.min(axis=0)
    found = []
    for count in counts:
        ends = [BINS]
        for cut in reversed(cuts[: count - 1]):
            ends.append(int(cut[ends[-1]]))
        ends.append(0)
        found.append(np.sort(np.array([means[i, j] for i, j in zip(ends[1:], ends[:-1], strict=True)])))
    return found


@functools.cache
def normal_levels(count: int, outliers: float) -> Floats:
    """Levels for a normal distribution whose ``outliers`` share lies outside −1 to 1: what stands in where nothing was calibrated."""
    x = np.linspace(-1, 1, GRID)
    reach = _two_sided_quantile(outliers)
    return best_levels(x, np.exp(-0.5 * (reach * x) ** 2), count, rounds=500)


def _two_sided_quantile(outliers: float) -> float:
    """z with P(|Z| > z) = ``outliers``, by halving; that of 0.0001 for less, because the range of a normal has no end."""
    low, high = 0.0, 4.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erfc(middle / math.sqrt(2)) > max(outliers, 1e-4) else (low, middle)
    return low


def nearest(values: Floats, levels: Floats) -> Floats:
    """Every value rounded to its level."""
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]


def q_norm(values: Floats, levels: Floats) -> Floats:
    """Levels to read back, shifted and scaled so that rounded ``values`` have the mean and deviation they had before."""
    rounded = nearest(values, levels)
    spread = rounded.std()
    scale = values.std() / spread if spread > 0 else 1.0
    restored: Floats = (levels - rounded.mean()) * scale + values.mean()
    return restored
