"""What a run is to measure: models, tasks, lengths, recipes, and how many samples. Kept with the results, so that a run can be resumed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from baywindow import recipe as recipes
from baywindow.bench import find
from baywindow.bench.base import Task
from baywindow.budget import Budget
from baywindow.errors import ConfigError
from baywindow.recipe import Recipe
from baywindow.registry import Technique

LEAST_SAMPLES = 10  # of a cell; fewer say nothing
MOST_SAMPLES = 100  # with --hours and no limit of its own
FULL_SAMPLES, FULL_LENGTHS = 100, (4096, 8192, 16384, 32768, 65536, 131072)
DEPTHS = 5  # places that needles are put at in turn, from 0 to 1
CHANCE = "chance"  # the preset that stands beside every selection


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``samples`` 0: as many as ``hours`` allow. ``generate`` 0: a reply is written for every sample, else for the first so many of a cell
    (answer NLL is measured for all). ``settings`` are the flags that opened the models. ``data`` are folders of loaded suites."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    recipes: tuple[str, ...]
    samples: int = 0
    hours: float = 0.0
    generate: int = 0
    max_new_tokens: int = 0  # 0: as the task says
    options: dict[str, Any] = field(default_factory=dict)  # of the generated tasks that have them
    budget: str = ""  # of one question through `ask`
    best: dict[str, int] = field(default_factory=dict)  # at these lengths (as text) only stock and the best so many recipes
    haystack: str = ""
    data: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("models", "tasks", "recipes"):
            if not getattr(self, name):
                raise ConfigError(f"a run needs {name}", hint=f"name some with --{name}")
        if self.budget:
            Budget.parse(self.budget)
        for text in self.best:
            if not any(length < length_of(text) for length in self.lengths) or length_of(text) not in self.lengths:
                hint = "its recipes are chosen at a shorter one: --lengths 1k,4k --best 4k:6"
                raise ConfigError(f"{text} is not a length of this run behind a shorter one", hint=hint)
        if (self.samples < 1) == (self.hours <= 0):
            raise ConfigError("a run needs a number of samples or hours", hint="--hours 1.5, or --samples 20")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Plan:
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        return cls(**given)


def lengths_of(text: str) -> tuple[int, ...]:
    """``1k,4k,128k`` or plain numbers, ascending; 1k is 1,024."""
    found = {length_of(part) for part in text.split(",") if part.strip()}
    if not found:
        raise ConfigError("no length was given", hint="e.g. --lengths 1k,4k")
    return tuple(sorted(found))


def length_of(text: str) -> int:
    """One length in tokens: ``4k``, ``4096``, ``1m``."""
    match = re.fullmatch(r"\s*(\d+(?:_\d+)*)\s*([km]?)\s*", text.lower())
    tokens = int(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2]] if match else 0
    if tokens < 1:
        raise ConfigError(f"{text.strip()!r} is not a length", hint="write it as 1k, 4k, 128k or a number of tokens")
    return tokens


def length_text(tokens: int) -> str:
    """``4k`` for 4,096; the number where it is no whole multiple; ``as is`` for texts of fixed length."""
    if tokens == 0:
        return "as is"
    if tokens % 1024**2 == 0:
        return f"{tokens // 1024**2}m"
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else str(tokens)


def tasks_of(patterns: Iterable[str]) -> list[Task]:
    """The tasks that patterns name, each once, in the order named."""
    found = {task.name: task for pattern in patterns for task in find.tasks(pattern)}
    return list(found.values())


def recipes_of(line: str, *, random: bool = True) -> list[Recipe]:
    """Recipes separated by ``;``, each once; a random choice of the same size after those that choose what a cache keeps."""
    found: dict[str, Recipe] = {}
    for recipe in recipes.parse_many(line):
        found.setdefault(recipe.hash, recipe)
        beside = random_beside(recipe) if random else None
        if beside is not None:
            found.setdefault(beside.hash, beside)
    if not found:
        raise ConfigError("no recipe was given", hint='e.g. --recipes "stock; snapkv(budget_tokens=512)"')
    return list(found.values())


def random_beside(recipe: Recipe) -> Recipe | None:
    """The same recipe with a random choice in the place of its cache that keeps a budget; None if it has none, or is random itself."""
    chosen = [part for part in recipe.inside if part.card.slot == "reduce" and "budget_tokens" in part.options()]
    chance = type(chance_part())
    if len(chosen) != 1 or isinstance(chosen[0], chance):
        return None
    budget = {k: v for k, v in chosen[0].options().items() if k in ("budget_tokens", "budget_fraction") and v is not None}
    swapped = [chance(**budget) if part is chosen[0] else part for part in recipe.inside]
    # What shares out one cache's budget among heads has nothing to share when the choice is random.
    kept = [part for part in swapped if part.card.slot != "allocate"]
    return Recipe(tuple(kept), recipe.outside)


def chance_part() -> Technique:
    """The technique that keeps tokens by chance, as its preset names it."""
    return recipes.parse(CHANCE).inside[0]


def is_random(recipe: Recipe) -> bool:
    return any(isinstance(part, type(chance_part())) for part in recipe.inside)


def depth_of(sample: int) -> float:
    """Where sample number n puts its needle: the depths come in turn, so that every stop leaves them balanced."""
    return (sample % DEPTHS) / (DEPTHS - 1)
