"""Who does the measuring: this process, or workers (see `bench.ray_engine`). Both give the same rows for the same work."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypedDict

from baywindow.bench import find, measure
from baywindow.bench.base import Sample
from baywindow.bench.counting import TokenCounter
from baywindow.bench.entailment import Entailment, JudgedEntailment, NliModel
from baywindow.bench.judge import Judge
from baywindow.bench.measure import Desk, Way
from baywindow.bench.plan import depth_of
from baywindow.bench.referees import refereeing
from baywindow.bench.samples import Maker, hay
from baywindow.bench.store import Row
from baywindow.config import Settings
from baywindow.errors import MissingExtraError
from baywindow.models import select
from baywindow.models.base import Embedder, LanguageModel
from baywindow.recipe import Recipe
from baywindow.recipe import parse as parse_recipe


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One sample and the recipes that still lack it, as plain data. ``tokens`` is what the sample is ordered with: the same for every
    recipe of a length, so that all read the same text."""

    model: str
    task: str
    length: int
    number: int
    tokens: int
    recipes: tuple[str, ...]
    way: Way
    haystack: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    machine: int = 0


class Engine(Protocol):
    at_once: int  # samples measured side by side

    def run(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, list[Row]]]:
        """The rows of each unit, one recipe at a time. Closing the iterator ends the work."""
        ...

    def close(self) -> None:
        """No more units come."""


class Local:
    """Measures in this process."""

    at_once = 1

    def __init__(self, model: LanguageModel, settings: Settings) -> None:
        self._model = model
        self._desk = Desk(model=model, settings=settings, embedder=functools.cache(lambda: _embedder(settings)))
        self._referees = functools.cache(lambda: _referees(model, settings))
        self._counter = TokenCounter(model.count_tokens, f"{model.name}@{model.fingerprint[:24]}")

    def run(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, list[Row]]]:
        for unit in units:
            yield from ((unit, rows) for rows in self._unit(unit))

    def close(self) -> None:
        """The model is its owner's; memories and a judge of its own are closed."""
        self._desk.memories.close()
        judge = self._referees().get("judge") if self._referees.cache_info().currsize else None
        if judge is not None and judge.model is not self._model:
            judge.model.close()

    def _unit(self, unit: Unit) -> Iterator[list[Row]]:
        sample, blanks = self._prepared(unit)
        if sample is None:
            yield from ([blank] for _, blank in blanks)
            return
        measuring = measure.measured(sample, blanks, self._desk, unit.way)
        while True:
            with refereeing(**self._referees()):  # for one step at a time: the setting is the thread's, and whoever iterates shares it
                rows = next(measuring, None)
            if rows is None:
                return
            yield rows

    def _prepared(self, unit: Unit) -> tuple[Sample | None, list[tuple[Recipe, Row]]]:
        """The sample, and each recipe with a row that says what it is of. One that cannot be made is None, and an error of its rows."""
        recipes = [parse_recipe(line) for line in unit.recipes]
        try:
            sample = self.sample(unit)
        except Exception as error:  # whatever a task's code or data brings: one sample fails, not the run
            return None, [(r, replace(self._blank(unit, r, None), error=measure.told_error(error))) for r in recipes]
        return sample, [(recipe, self._blank(unit, recipe, sample)) for recipe in recipes]

    def sample(self, unit: Unit) -> Sample:
        [task] = [t for t in find.tasks(unit.task) if t.name == unit.task]
        maker = Maker(self._counter, hay(unit.haystack), unit.data)
        options = {name: value for name, value in unit.options.items() if name in task.options}
        return maker.sample(task, unit.tokens, unit.number, depth=depth_of(unit.number), options=options)

    def _blank(self, unit: Unit, recipe: Recipe, sample: Sample | None) -> Row:
        known: Mapping[str, Any] = sample.metadata if sample else {}
        return Row(
            model=unit.model,
            task=unit.task,
            length=unit.length,
            sample=unit.number,
            turn=0,
            recipe=str(recipe),
            recipe_hash=recipe.hash,
            protocol=measure.protocol_of(recipe, self._model),
            sample_id=sample.id if sample else "",
            depth=known.get("depth"),
            tokens=known.get("tokens"),
            machine=unit.machine,
        )


def _embedder(settings: Settings) -> Embedder | None:
    """The configured one; None where the packages for one are missing, as `ask` has it."""
    from baywindow.models.embedders import load_embedder

    try:
        return load_embedder(settings.embedder, settings)
    except MissingExtraError:
        if settings.embedder:
            raise
        return None


class Referees(TypedDict, total=False):
    judge: Judge
    entailment: Entailment


def _referees(model: LanguageModel, settings: Settings) -> Referees:
    """Whom the settings name to decide what no formula can; a judge also tests entailment where no model for that is named."""
    found: Referees = {}
    if settings.judge:
        same = settings.judge == settings.model
        judge = found["judge"] = Judge(model if same else select.load(settings.judge, settings=settings))
        found["entailment"] = JudgedEntailment(judge)
    if settings.nli:
        found["entailment"] = NliModel(settings.nli)
    return found


def closable(rows: Iterator[Any]) -> Any:
    """An iterator that can be closed, whether it is a generator or not."""
    return rows if hasattr(rows, "close") else (item for item in rows)
