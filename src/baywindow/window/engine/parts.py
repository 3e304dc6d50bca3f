"""A recipe's inside part, sorted by role. The engine asks for roles here and never for a technique by name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

from baywindow.errors import CapabilityError, RecipeError
from baywindow.recipe import Recipe
from baywindow.registry import Technique
from baywindow.window.base import Calibrated, ModelInfo
from baywindow.window.caches.base import Allocator, CachePolicy, Codec, Finisher, Mover, Prefill, Quantiser, Reducer
from baywindow.window.patterns.base import Pattern
from baywindow.window.positions.base import Position

T = TypeVar("T", bound=Technique)
ROOMS = ("window/positions", "window/patterns", "window/caches")


@dataclass(frozen=True)
class Parts:
    """At most one technique a role; None where the recipe names none."""

    position: Position | None
    pattern: Pattern | None
    reducer: Reducer | None
    finisher: Finisher | None
    allocator: Allocator | None
    quantiser: Quantiser | None
    mover: Mover | None
    prefill: Prefill | None
    codec: Codec | None

    @classmethod
    def none(cls) -> Parts:
        """The seam without techniques."""
        return cls(**dict.fromkeys(field.name for field in fields(cls)))

    @classmethod
    def of(cls, recipe: Recipe) -> Parts:
        """Raises RecipeError for two of one role, or for a room this engine does not run."""
        for part in recipe.inside:
            if part.card.room not in ROOMS:
                raise RecipeError(f"{part.card.name} is of the room {part.card.room}, which attach does not run", hint=", ".join(ROOMS))
        made = cls(*(_only(recipe, kind) for kind in (Position, Pattern, Reducer, Finisher, Allocator, Quantiser, Mover, Prefill, Codec)))  # type: ignore[arg-type]
        if made.reducer and made.finisher:
            raise RecipeError(
                f"{made.reducer.card.name} and {made.finisher.card.name} cannot stand in one recipe: both choose what stays",
                hint="choose one of them",
            )
        if made.pattern and made.position and made.pattern.has_angles():
            raise RecipeError(
                f"{made.pattern.card.name} brings its own angles and cannot stand beside {made.position.card.name}",
                hint="choose one of them",
            )
        return made

    @property
    def caches(self) -> tuple[CachePolicy, ...]:
        found = (self.reducer, self.finisher, self.allocator, self.quantiser, self.mover, self.prefill, self.codec)
        return tuple(part for part in found if part is not None)

    @property
    def all(self) -> tuple[Position | Pattern | CachePolicy, ...]:
        return tuple(part for part in (self.position, self.pattern, *self.caches) if part is not None)

    @property
    def raw(self) -> bool:
        """Whether keys must be held un-rotated."""
        moving = self.position is not None and not self.position.fixed
        own = self.pattern is not None and self.pattern.has_angles()
        return moving or own or any(part.needs_raw_keys for part in self.caches)

    @property
    def query_window(self) -> int:
        return max((part.query_window() for part in self.caches), default=0)

    @property
    def prompt_only(self) -> frozenset[str]:
        """Policies that have nothing to see or do after the prompt: reducers that do not act at every step, and what goes with them."""
        if self.reducer is not None and "decode" in self.reducer.when:
            return frozenset()
        return frozenset(part.card.name for part in (self.reducer, self.finisher, self.allocator) if part is not None)

    @property
    def croppable(self) -> bool:
        """Whether the last tokens can be taken back: not once something was dropped or packed."""
        return not self.caches

    def check(self, info: ModelInfo) -> None:
        """Raise CapabilityError if a part cannot work on this model, or was not prepared for it."""
        for part in self.all:
            if isinstance(part, Calibrated) and not part.ready(info):
                raise CapabilityError(
                    f"{part.card.name} was not prepared for {info.name}", hint=f"run: bay prepare {part.card.name} --model {info.name}"
                )
            part.check_model(info)


def _only(recipe: Recipe, kind: type[T]) -> T | None:
    found = [part for part in recipe.inside if isinstance(part, kind)]
    if len(found) > 1:
        names = " and ".join(part.card.name for part in found)
        raise RecipeError(f"{names} cannot stand in one recipe: both are a {kind.__name__.lower()}", hint="choose one of them")
    return found[0] if found else None
