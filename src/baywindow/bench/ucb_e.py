"""Find the best of many recipes with a fraction of the evaluations.

Paper: Zhou et al. 2024, "On Speeding Up Language Model Evaluation", arXiv:2407.06172; the authors' package (banditeval) was read.
Idea: recipes are arms, samples are draws. Plain UCB-E measures next, on samples drawn at random, the recipe with the highest mean plus
a bonus that shrinks with what is known of it. The low-rank variant completes the matrix of recipes and samples by an ensemble of
factorisations; an entry not yet measured counts with its predicted mean plus a multiple of the ensemble's spread, and the least certain
samples of the chosen recipe come first.
Departs from the paper: draws come from a seed and the number of entries known, so that an interrupted search goes on as it would have;
in the warm-up of the low-rank variant a recipe without any entry is measured before one with some, because a row that was never seen
would keep the factors' random start; the first factor starts positive, for with signs mixed and entries missing the alternating steps
often end where everything known fits and predictions lie far outside 0 to 1 (half of the starts did on an exact rank-one matrix).
Shapes: ``observed`` is (recipe, sample), NaN where not measured, values from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import ConfigError

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class UcbE:
    """``exploration`` is the paper's a: the bonus is sqrt(a / n)."""

    exploration: float = 1.0
    batch: int = 1

    def __post_init__(self) -> None:
        if self.exploration < 0:
            raise ConfigError.bad_value("exploration", self.exploration, "0 or more")
        if self.batch < 1:
            raise ConfigError.bad_value("batch", self.batch, "at least 1")

    def next(self, observed: Matrix) -> list[tuple[int, int]]:
        """The (recipe, sample) pairs to measure now; none when everything is known."""
        open_rows = _open(observed)
        if not open_rows.any():
            return []
        counts = (~np.isnan(observed)).sum(axis=1)
        bonus = np.sqrt(self.exploration / np.maximum(counts, 1))
        bounds = np.where(counts > 0, _means(observed) + bonus, np.inf)
        row = int(np.argmax(np.where(open_rows, bounds, -np.inf)))
        left = np.flatnonzero(np.isnan(observed[row]))
        return [(row, int(c)) for c in _draw(observed).permutation(left)[: self.batch]]

    def values(self, observed: Matrix) -> Matrix:
        """What each recipe is thought to be worth, (recipe,); NaN for one never measured."""
        return _means(observed)


@dataclass(frozen=True, kw_only=True)
class UcbELowRank:
    """UCB-E-LRF. ``uncertainty`` is the paper's eta, ``warm_up`` the share of entries drawn at random before the first factorisation."""

    rank: int = 1
    ensemble: int = 64
    uncertainty: float = 5.0
    warm_up: float = 0.05
    ridge: float = 0.1
    dropped: float = 0.05  # share of known entries that each member of the ensemble does not see
    iterations: int = 10
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("rank", "ensemble", "iterations", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        if self.ridge <= 0:
            raise ConfigError.bad_value("ridge", self.ridge, "above 0: without it a row that is hardly known has no solution")

    def next(self, observed: Matrix) -> list[tuple[int, int]]:
        """The (recipe, sample) pairs to measure now; none when everything is known."""
        open_rows = _open(observed)
        if not open_rows.any():
            return []
        known = ~np.isnan(observed)
        counts = known.sum(axis=1)
        if counts.min() == 0 or known.mean() < self.warm_up:
            return self._warm(observed, counts)
        mean, spread = self._completed(observed)
        bounds = np.where(known, observed, mean + self.uncertainty * spread).mean(axis=1)
        row = int(np.argmax(np.where(open_rows, bounds, -np.inf)))
        order = np.argsort(-np.where(known[row], -1.0, spread[row]), kind="stable")
        return [(row, int(c)) for c in order[: min(self.batch, int((~known[row]).sum()))]]

    def values(self, observed: Matrix) -> Matrix:
        """What each recipe is thought to be worth, (recipe,): measured entries, predicted ones in the gaps."""
        if np.isnan(observed).all(axis=1).any():
            return _means(observed)
        mean, _ = self._completed(observed)
        found: Matrix = np.where(np.isnan(observed), mean, observed).mean(axis=1)
        return found

    def _warm(self, observed: Matrix, counts: NDArray[np.int64]) -> list[tuple[int, int]]:
        rows, columns = np.nonzero(np.isnan(observed) & ((counts == 0)[:, None] | (counts.min() > 0)))
        chosen = _draw(observed).permutation(len(rows))[: self.batch]
        return [(int(rows[i]), int(columns[i])) for i in chosen]

    def _completed(self, observed: Matrix) -> tuple[Matrix, Matrix]:
        """Mean and spread of the ensemble's predictions, each (recipe, sample)."""
        draw = _draw(observed)
        made = np.stack([self._member(observed, draw) for _ in range(self.ensemble)])
        return made.mean(axis=0), made.std(axis=0, ddof=1) if self.ensemble > 1 else np.zeros_like(observed)

    def _member(self, observed: Matrix, draw: np.random.Generator) -> Matrix:
        seen = ~np.isnan(observed) & (draw.random(observed.shape) >= self.dropped)
        values = np.where(seen, np.nan_to_num(observed), 0.0)
        recipes, samples = (draw.normal(size=(n, self.rank)) for n in observed.shape)
        recipes[:, 0] = np.abs(recipes[:, 0])
        for _ in range(self.iterations):
            samples = _solved(values.T, seen.T, recipes, self.ridge)
            recipes = _solved(values, seen, samples, self.ridge)
        found: Matrix = recipes @ samples.T
        return found


def _solved(values: Matrix, seen: NDArray[np.bool_], fixed: Matrix, ridge: float) -> Matrix:
    """The factors of rows that fit their seen values best, given those of the columns: one ridge regression a row."""
    left = np.einsum("rc,ck,cl->rkl", seen.astype(float), fixed, fixed) + ridge * np.eye(fixed.shape[1])
    right = values @ fixed
    found: Matrix = np.linalg.solve(left, right[:, :, None])[:, :, 0]
    return found


def _means(observed: Matrix) -> Matrix:
    counts = (~np.isnan(observed)).sum(axis=1)
    sums = np.nansum(observed, axis=1)
    found: Matrix = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return found


def _open(observed: Matrix) -> NDArray[np.bool_]:
    """Recipes that still lack a sample."""
    found: NDArray[np.bool_] = np.asarray(np.isnan(observed).any(axis=1))
    return found


def _draw(observed: Matrix) -> np.random.Generator:
    return np.random.default_rng(int((~np.isnan(observed)).sum()))
