"""A recipe's inside part, sorted by role. The engine asks for roles here and never for a technique by name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

from baywindow.errors import CapabilityError, RecipeError
from baywindow.recipe import Recipe
from baywindow.registry import Technique
from baywindow.window.base import Calibrated, ModelInfo
from baywindow.window.caches.base import Allocator, CachePolicy, Codec, Finisher, Joiner, Mover, Narrower, Prefill, Quantiser, Reducer
from baywindow.window.patterns.base import Pattern
from baywindow.window.positions.base import Position
from baywindow.window.recall import Recaller

T = TypeVar("T", bound=Technique)
ROOMS = ("window/positions", "window/patterns", "window/caches")
ROLES = (Position, Pattern, Reducer, Finisher, Allocator, Narrower, Joiner, Quantiser, Mover, Prefill, Codec, Recaller)


@dataclass(frozen=True)
class Parts:
    """At most one technique a role; None where the recipe names none. What follows from them is asked for at every layer and step, so it
    is worked out once."""

    position: Position | None
    pattern: Pattern | None
    reducer: Reducer | None
    finisher: Finisher | None
    allocator: Allocator | None
    narrower: Narrower | None
    joiner: Joiner | None
    quantiser: Quantiser | None
    mover: Mover | None
    prefill: Prefill | None
    codec: Codec | None
    recaller: Recaller | None

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
        made = cls(*(_only(recipe, kind) for kind in ROLES))  # type: ignore[arg-type]
        if made.reducer and made.finisher:
            raise RecipeError(
                f"{made.reducer.card.name} and {made.finisher.card.name} cannot stand in one recipe: both choose what stays",
                hint="choose one of them",
            )
        if made.recaller and made.votes_late:
            raise RecipeError(
                f"{made.recaller.card.name} and {made.reducer.card.name} cannot stand in one recipe: "  # type: ignore[union-attr]
                "one drops tokens at every step, and the other's index of what is held would have to be made anew each time",
                hint="choose a cache that acts once after the prompt, e.g. snapkv",
            )
        if made.pattern and made.position and made.pattern.has_angles():
            raise RecipeError(
                f"{made.pattern.card.name} brings its own angles and cannot stand beside {made.position.card.name}",
                hint="choose one of them",
            )
        return made

    @cached_property
    def caches(self) -> tuple[CachePolicy, ...]:
        stay = (self.reducer, self.finisher, self.allocator)
        found = (*stay, self.narrower, self.joiner, self.quantiser, self.mover, self.prefill, self.codec)
        recaller = self.recaller if isinstance(self.recaller, CachePolicy) else None
        return tuple(part for part in (*found, recaller) if part is not None)

    @cached_property
    def votes_late(self) -> bool:
        """Whether a reducer acts after the prompt too."""
        return self.reducer is not None and "decode" in self.reducer.when

    @cached_property
    def watching(self) -> bool:
        """Whether some cache looks at the attention of every forward."""
        return any(part.watches for part in self.caches)

    @cached_property
    def all(self) -> tuple[Position | Pattern | CachePolicy, ...]:
        return tuple(part for part in (self.position, self.pattern, *self.caches) if part is not None)

    @cached_property
    def raw(self) -> bool:
        """Whether keys must be held un-rotated."""
        moving = self.position is not None and not self.position.fixed
        own = self.pattern is not None and self.pattern.wants_raw_keys()
        return moving or own or any(part.needs_raw_keys for part in self.caches)

    @cached_property
    def query_window(self) -> int:
        return max((part.query_window() for part in self.caches), default=0)

    @cached_property
    def prompt_only(self) -> frozenset[str]:
        """Policies that have nothing to see or do after the prompt: reducers that do not act at every step, and what goes with them."""
        if self.votes_late:
            return frozenset()
        stay = (self.reducer, self.finisher, self.allocator, self.narrower, self.joiner)
        return frozenset(part.card.name for part in stay if part is not None)

    @cached_property
    def reads_surprisal(self) -> bool:
        """Whether some part asks how surprising each token was."""
        return any(part.reads_surprisal for part in self.caches)

    @cached_property
    def lays_apart(self) -> bool:
        """Whether old tokens lie where only lookups read them. Where another cache drops, packs or joins tokens, they lie as it says."""
        alone = all(part in (self.recaller, self.mover, self.codec) for part in self.caches)
        return self.recaller is not None and alone and (self.recaller.lays_apart or self.mover is not None)

    @cached_property
    def at_end(self) -> bool:
        """Whether some part acts on all layers together when the prompt is in."""
        return self.finisher is not None or self.joiner is not None

    @cached_property
    def croppable(self) -> bool:
        """Whether the last tokens can be taken back: not once something was dropped, packed or learned from them."""
        return not self.caches and not (self.pattern is not None and self.pattern.remembers)

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
