"""What a run found: rows grouped into cells, compared with stock and with chance on the same samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from baywindow import recipe as recipes
from baywindow.bench.plan import is_random, random_beside
from baywindow.bench.stats import Difference, Interval, difference, interval
from baywindow.bench.store import Row, Store
from baywindow.errors import BayError
from baywindow.recipe import Recipe

STOCK = "stock"
TIMES = ("seconds", "cpu_seconds")
Key = tuple[object, ...]


@dataclass(frozen=True)
class Cell:
    """All rows of one recipe on one model at one length, over the run's tasks."""

    model: str
    length: int
    recipe: str
    rows: tuple[Row, ...]

    @property
    def good(self) -> list[Row]:
        return [r for r in self.rows if not r.error]

    @property
    def errors(self) -> int:
        return len(self.rows) - len(self.good)

    def values(self, name: str) -> dict[Key, float]:
        """A figure by sample; that of a sample with several questions is their mean, for they share one text.

        Times are those of samples with a written reply, where there are any.
        """
        found: dict[Key, list[float]] = defaultdict(list)
        written = [r for r in self.good if r.reply is not None] if name in TIMES else []
        for row in written or self.good:
            if (value := getattr(row, name)) is not None:
                found[row.task, row.sample].append(float(value))
        return {key: sum(values) / len(values) for key, values in found.items()}

    def interval(self, name: str) -> Interval | None:
        """The mean over tasks of a figure's mean, with its interval."""
        groups: dict[str, list[float]] = defaultdict(list)
        for (task, *_), value in self.values(name).items():
            groups[str(task)].append(value)
        return interval(groups)

    def mean(self, name: str) -> float | None:
        values = list(self.values(name).values())
        return sum(values) / len(values) if values else None

    @property
    def asked(self) -> bool:
        """Whether the questions went through `ask`, so that the model read other prompts than the published ones."""
        return any(r.protocol == "ask" for r in self.rows)


@dataclass(frozen=True)
class Summary:
    """A run as its report shows it. ``facts`` are what the store keeps beside the rows."""

    name: str
    rows: tuple[Row, ...]
    plan: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    machines: dict[int, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, name: str) -> Summary:
        return cls(name, tuple(store.rows()), store.fact("plan", {}), store.facts(), store.machines())

    @cached_property
    def cells(self) -> dict[tuple[str, int, str], Cell]:
        groups: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[row.model, row.length, row.recipe].append(row)
        return {key: Cell(*key, tuple(rows)) for key, rows in groups.items()}

    @property
    def models(self) -> list[str]:
        return _ordered((r.model for r in self.rows), [m.rpartition("/")[2] for m in self.plan.get("models", ())])

    @property
    def tasks(self) -> list[str]:
        return _ordered((r.task for r in self.rows), self.plan.get("tasks", ()))

    def lengths(self, model: str) -> list[int]:
        return sorted({r.length for r in self.rows if r.model == model})

    def recipes(self, model: str | None = None, length: int | None = None) -> list[str]:
        """Recipes with rows, in the plan's order."""
        here = (r.recipe for r in self.rows if model in (None, r.model) and length in (None, r.length))
        return _ordered(here, self.plan.get("recipes", ()))

    def cell(self, model: str, length: int, recipe: str) -> Cell | None:
        return self.cells.get((model, length, recipe))

    def compared(self, cell: Cell, other: str, name: str) -> Difference | None:
        """This cell's figure less that of another recipe, on the samples that both have."""
        rival = self.cell(cell.model, cell.length, other)
        return difference(cell.values(name), rival.values(name)) if rival and rival is not cell else None

    def chance(self, recipe: str) -> str | None:
        """The random choice that stands beside a selection, if the run has it."""
        parsed = parsed_or_none(recipe)
        beside = random_beside(parsed) if parsed else None
        return str(beside) if beside is not None and str(beside) in self.recipes() else None

    @property
    def randoms(self) -> set[str]:
        return {r for r in self.recipes() if (p := parsed_or_none(r)) is not None and is_random(p)}


@cache
def whole() -> str:
    """The recipe that asks about the whole text in one prompt, as its preset names it: what other ways of asking are compared with."""
    return str(recipes.parse("default_inside"))


def parsed_or_none(line: str) -> Recipe | None:
    """A recipe of a stored row, or None where this version no longer knows it: its rows are shown all the same."""
    try:
        return recipes.parse(line)
    except BayError:
        return None


def _ordered(found: Iterable[str], wanted: Sequence[str]) -> list[str]:
    here = dict.fromkeys(found)
    return [w for w in wanted if w in here] + [f for f in here if f not in wanted]
