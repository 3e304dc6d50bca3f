"""What a request's ``model`` names: a served model, and a recipe.

MODEL, then ``+inside``, then ``|outside``; MODEL ends at the first ``+`` or ``|``. What follows may also be the name of a recipe in
``bay.toml``, and such a name alone means the first served model with it.

A recipe in a request is somebody else's text. Options that hold free text may name a file or a model to be loaded, and a memory
would outlive the request: only a recipe that the operator wrote in ``bay.toml`` may have those.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

from baywindow import recipe as recipes
from baywindow import registry
from baywindow.config import Settings
from baywindow.context.ask import DEFAULT_RECIPE
from baywindow.errors import BayError, CapabilityError, RecipeError
from baywindow.recipe import Recipe
from baywindow.registry import Technique

_JOINT = re.compile(r"[+|]")


class UnknownModelError(BayError):
    """No served model is called so."""

    http_status = 404


@dataclass(frozen=True)
class Named:
    """A model and the recipe to run. ``explicit``: the request named the outside half, so it acts also where the prompt fits."""

    model: str
    recipe: Recipe
    explicit: bool = False


def served_name(name: str) -> str:
    """What a model is called in requests: a path's last part, without the two characters that end a name."""
    plain = Path(name).name if name.startswith((".", "/", "~")) or name.lower().endswith(".gguf") else name
    return _JOINT.sub("-", plain.removeprefix("openai:"))


def named(text: str, served: Sequence[str], settings: Settings, *, any_model: bool = False, insides: bool = True) -> Named:
    """UnknownModelError or RecipeError, each with the nearest names. ``any_model``: an upstream knows which names there are.

    ``insides`` False: the model is not open. A technique that works inside one is then refused before it is imported, torch and all.
    """
    if text in settings.recipes and served:
        return _with(served[0], settings.recipes[text], outside_only=False)
    found = _JOINT.search(text)
    head, rest = (text[: found.start()].strip(), text[found.start() :]) if found else (text.strip(), "")
    if head not in served and not any_model:
        near = get_close_matches(head, [*served, *settings.recipes], n=1, cutoff=0.0)
        raise UnknownModelError(f"the model {head[:100]!r} is not served here", hint=f"nearest: {near[0]}" if near else "see /v1/models")
    if not head:
        raise UnknownModelError("no model is named", hint="a model, then +inside, then |outside")
    if not rest:
        chosen = recipes.parse(settings.recipe_of(None) or DEFAULT_RECIPE)
        return Named(head, chosen.with_defaults())
    line = rest[1:].strip()
    if line in settings.recipes:
        return _with(head, settings.recipes[line], outside_only=rest[0] == "|")
    if not insides:
        _check_outside(line, head)
    made = recipes.parse(line)
    if rest[0] == "|" and made.inside:
        raise RecipeError(f"{made.inside[0].card.name} works inside the model", hint=f"write it as {head}+{line}")
    if rest[0] == "+" and not made.inside:
        raise RecipeError(f"{line!r} works outside the model", hint=f"write it as {head}|{line}")
    for part in (*made.inside, *made.outside):
        check_from_stranger(part)
    return Named(head, made.with_defaults(), explicit=bool(made.outside))


def _check_outside(line: str, model: str) -> None:
    inside = {card.name for card in registry.cards() if card.side == "inside"}
    if found := next((word for word in re.findall(r"[a-z]\w*", line) if word in inside), None):
        raise CapabilityError(f"{found} works inside a model, and {model} is not open", hint="name the recipe's outside half: MODEL|…")


def _with(model: str, recipe: str | Mapping[str, Any], *, outside_only: bool) -> Named:
    made = recipes.parse(recipe)
    if outside_only and made.inside:
        raise RecipeError("right of `|` stands a recipe with a part inside the model", hint="write + before its name")
    return Named(model, made.with_defaults(), explicit=bool(made.outside))


def check_from_stranger(part: Technique) -> None:
    """Raise RecipeError if this technique, as written, could reach beyond the request."""
    name = part.card.name
    if part.card.room == "memory":
        raise RecipeError(f"{name} keeps what it reads, and may not be named in a request", hint="name it in a recipe of bay.toml")
    kinds = get_type_hints(type(part))
    for option, value in part.options().items():
        default = type(part).__dataclass_fields__[option].default  # type: ignore[attr-defined]
        if value != default and _free_text(kinds[option]):
            raise RecipeError(
                f"{name}: {option} may name a file or a model, and is not taken from a request",
                hint="put the recipe into bay.toml under a name, and use that",
            )


def _free_text(kind: Any) -> bool:
    """Whether a type lets any text through: str or Path, also inside a union or a container (but no Literal)."""
    if kind in (str, Path, Any, object):
        return True
    if isinstance(kind, types.GenericAlias | types.UnionType) or get_args(kind):
        return any(_free_text(inner) for inner in get_args(kind) if not isinstance(inner, str))
    return False
