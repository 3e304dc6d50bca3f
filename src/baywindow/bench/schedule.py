"""How many samples a cell gets, and which cells are dropped, when hours are limited: decided from measured seconds.

A *column* is one recipe at one length, over all tasks; a *round* measures one more sample of every task in every column. Rounds go
on in turn, so that a run may stop at any time and leave all cells within one sample of each other.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from baywindow.bench.plan import LEAST_SAMPLES, MOST_SAMPLES

Column = tuple[int, str]  # length, recipe hash


@dataclass
class Schedule:
    """Times by column; what is kept. ``protected`` recipes (stock) are dropped only with their length."""

    columns: list[Column]
    tasks: dict[int, int]  # number of tasks at a length
    protected: frozenset[str]
    waiting: set[int] = field(default_factory=set)  # lengths that come after the others, when their recipes are chosen
    done: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # rounds by length
    have: dict[Column, int] = field(default_factory=lambda: defaultdict(int))  # samples by column, all tasks
    dropped: dict[Column, str] = field(default_factory=dict)  # for good, and why
    postponed: dict[Column, str] = field(default_factory=dict)  # for want of time, until the next decision
    _seconds: dict[Column, list[float]] = field(default_factory=lambda: defaultdict(list))

    def spent(self, column: Column, seconds: float) -> None:
        """One more sample of a column was measured."""
        self._seconds[column].append(seconds)
        self.have[column] += 1

    @property
    def kept(self) -> list[Column]:
        return [c for c in self.columns if c[0] not in self.waiting and c not in self.dropped and c not in self.postponed]

    def active(self, length: int) -> list[str]:
        """Recipes that are measured at a length."""
        return [recipe for at, recipe in self.kept if at == length]

    def seconds_of(self, column: Column) -> float:
        """Seconds of one sample: the median of what was measured, without the first, which also paid for what is only done once; else
        guessed from the same recipe at another length, else from all."""
        if times := self._seconds.get(column):
            return statistics.median(times[1:] or times)
        known = [c for c, times in self._seconds.items() if times]
        same = [c for c in known if c[1] == column[1]] or known
        guesses = [self.seconds_of(c) * max(column[0], 1) / max(c[0], 1) for c in same]
        return statistics.mean(guesses) if guesses else 0.0

    def left(self, samples: int) -> float:
        """Seconds until every kept cell has so many samples."""
        return sum(self._lacking(c, samples) * self.seconds_of(c) for c in self.kept)

    def _lacking(self, column: Column, samples: int) -> int:
        return max(0, samples * self.tasks.get(column[0], 0) - self.have[column])

    @property
    def lengths(self) -> list[int]:
        return sorted({length for length, _ in self.kept})

    def affordable(self, seconds: float) -> int:
        """The largest number of samples a cell that all kept cells can have in this time, at most `MOST_SAMPLES`."""
        return max((n for n in range(MOST_SAMPLES + 1) if self.left(n) <= seconds), default=0)

    def decide(self, seconds: float) -> int:
        """Samples a cell, after postponing the dearest columns for as long as the rest would stay below `LEAST_SAMPLES`.

        What was postponed before is considered again, for the first seconds measured on a busy machine say little. A column that has its
        samples costs nothing and stays. When only protected columns are left, whole lengths go, the longest first; the last one stays,
        however few samples it gets.
        """
        self.postponed.clear()
        while (samples := self.affordable(seconds)) < LEAST_SAMPLES:
            free = [c for c in self.kept if c[1] not in self.protected and self._lacking(c, LEAST_SAMPLES)]
            if free:
                column = max(free, key=lambda c: (self.seconds_of(c) * self.tasks.get(c[0], 0), c))
                self._postpone([column], f"{self.seconds_of(column):.1f} s a sample: no time for {LEAST_SAMPLES} samples of everything")
            elif len(self.lengths) > 1:
                length = self.lengths[-1]
                self._postpone([c for c in self.kept if c[0] == length], f"no time for {LEAST_SAMPLES} samples at this length")
            else:
                break
        return max(samples, 1)

    def drop(self, columns: Iterable[Column], why: str) -> None:
        for column in columns:
            self.dropped.setdefault(column, why)

    def _postpone(self, columns: Iterable[Column], why: str) -> None:
        self.postponed.update(dict.fromkeys(columns, why))
