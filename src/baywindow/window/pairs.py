"""Which techniques inside the model combine, generated from what they declare. The docs show the table; the tests run every legal pair."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from baywindow import recipe, registry
from baywindow.errors import RecipeError
from baywindow.recipe import Recipe
from baywindow.window.caches.base import Allocator, Finisher, Reducer, Selector
from baywindow.window.engine.parts import ROOMS, Parts


def inside_names() -> list[str]:
    """All techniques the engine runs, by room and name."""
    return [card.name for room in ROOMS for card in registry.cards(room)]


def with_companion(first: str, second: str) -> tuple[str, ...]:
    """The pair, and the plainest selector beside an allocator that has none: alone it has nothing to share out."""
    kinds = [registry.get(name) for name in (first, second)]
    if any(issubclass(k, Allocator) for k in kinds) and not any(issubclass(k, Reducer | Finisher) for k in kinds):
        return (first, second, companion())
    return (first, second)


def companion() -> str:
    """The first selector by name that acts once after the prompt."""
    for card in registry.cards("window/caches"):
        kind = registry.get(card.name)
        if issubclass(kind, Selector) and "decode" not in kind.when:
            return card.name
    raise RecipeError("there is no selector for an allocator to share out for")


def refusal(first: str, second: str) -> str:
    """Why two techniques cannot stand in one recipe; an empty string if they can."""
    try:
        Parts.of(Recipe(tuple(recipe.make(name, {}) for name in with_companion(first, second))))
    except RecipeError as error:
        return error.message
    return ""


def table(names: Iterable[str] | None = None) -> str:
    """A Markdown table: ✓ where two techniques combine, a number where they do not, and the reasons by number below."""
    chosen = list(names) if names is not None else inside_names()
    reasons: dict[str, int] = {}
    cells: dict[tuple[str, str], str] = {}
    for a, b in itertools.combinations(chosen, 2):
        why = reason_without_names(refusal(a, b), a, b)
        mark = "✓" if not why else str(reasons.setdefault(why, len(reasons) + 1))
        cells[a, b] = cells[b, a] = mark
    lines = ["| | " + " | ".join(f"`{name}`" for name in chosen) + " |", "|---" * (len(chosen) + 1) + "|"]
    lines += [f"| `{a}` | " + " | ".join("" if a == b else cells[a, b] for b in chosen) + " |" for a in chosen]
    return "\n".join([*lines, "", *(f"{n}. {why}" for why, n in reasons.items())])


def reason_without_names(message: str, a: str, b: str) -> str:
    """The part of a refusal behind the names, so that equal reasons share a number."""
    _, found, why = message.partition("in one recipe: ")
    return (why if found else message).replace(a, "one").replace(b, "the other")
