"""`bay bench --find-best`: a bandit chooses which recipe is measured next on which sample, until its evaluations are used up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from baywindow.bench.base import Generated
from baywindow.bench.engine import Unit
from baywindow.bench.measure import Way
from baywindow.bench.model_run import ModelRun
from baywindow.bench.store import Row
from baywindow.bench.ucb_e import Matrix, UcbE, UcbELowRank

By = Literal["score", "nll"]
USUAL_SHARE = 0.15  # of all pairs: the upper end of what the paper needed
LEAST_EACH = 3  # evaluations a recipe, at least, on average


@dataclass(frozen=True)
class Ranked:
    """A recipe's place: what it is thought to be worth (0 to 1), and on how many samples that rests."""

    recipe: str
    value: float
    evaluations: int


class Search:
    """The bandit over one model's part of a run. Every evaluation is a row of the store, so a search resumes like a run."""

    def __init__(self, run: ModelRun, bandit: UcbE | UcbELowRank, by: By, evaluations: int = 0) -> None:
        self.run, self.bandit, self.by = run, bandit, by
        self.recipes = [h for h in run.recipes if all(run.reach.get(h, 0) >= n for n in run.plan.lengths)]
        lengths = run.plan.lengths
        self.samples = [
            (task, length, number)
            for number in range(run.plan.samples)
            for task in run.tasks
            for length in (lengths if isinstance(task, Generated) else (0,))
        ]
        pairs = len(self.recipes) * len(self.samples)
        usual = max(math.ceil(USUAL_SHARE * pairs), LEAST_EACH * len(self.recipes))
        self.evaluations = min(evaluations or usual, pairs)

    def go(self, deadline: float = math.inf, tell: Callable[[int, int], None] = lambda done, total: None) -> list[Ranked]:
        """Measure until the evaluations are used up or the time is over; the ranking, best first."""
        observed = self._observed(self.run.store.rows())
        while (done := int((~np.isnan(observed)).sum())) < self.evaluations and time.monotonic() < deadline:
            chosen = self.bandit.next(observed)
            if not chosen:
                break
            for row, column in chosen:
                observed[row, column] = self._measure(row, column)
            tell(done + len(chosen), self.evaluations)
        return self._ranking(observed)

    def _measure(self, row: int, column: int) -> float:
        """Measure one pair and keep it. What fails is worth nothing."""
        task, length, number = self.samples[column]
        recipe = self.run.recipes[self.recipes[row]]
        way = Way(generate=self.by == "score", max_new_tokens=self.run.plan.max_new_tokens)
        unit: Unit = replace(self.run.unit(task, length, number), recipes=(str(recipe),), way=way)
        rows = [r for _, found in self.run.engine.run([unit]) for r in found]
        self.run.store.add([replace(r, model=self.run.name) for r in rows])
        return self._value(rows)

    def _value(self, rows: list[Row]) -> float:
        """From 0 to 1, over the sample's questions: the mean score, or the likelihood of a gold token (the geometric mean)."""
        if self.by == "nll":
            losses = [r.nll for r in rows if r.nll is not None]
            return math.exp(-sum(losses) / len(losses)) if losses else 0.0
        scores = [r.score or 0.0 for r in rows]
        return sum(scores) / len(scores) if scores else 0.0

    def _observed(self, rows: list[Row]) -> Matrix:
        """What the store holds already."""
        observed: Matrix = np.full((len(self.recipes), len(self.samples)), np.nan)
        at = {(task.name, length, number): column for column, (task, length, number) in enumerate(self.samples)}
        groups: dict[tuple[int, int], list[Row]] = {}
        for row in rows:
            column = at.get((row.task, row.length, row.sample))
            if row.model == self.run.name and column is not None and row.recipe_hash in self.recipes:
                groups.setdefault((self.recipes.index(row.recipe_hash), column), []).append(row)
        for place, found in groups.items():
            observed[place] = self._value(found)
        return observed

    def _ranking(self, observed: Matrix) -> list[Ranked]:
        values, counts = self.bandit.values(observed), (~np.isnan(observed)).sum(axis=1)
        found = [
            Ranked(str(self.run.recipes[h]), float(value), int(count)) for h, value, count in zip(self.recipes, values, counts, strict=True)
        ]
        return sorted(found, key=lambda r: -r.value if not math.isnan(r.value) else math.inf)
