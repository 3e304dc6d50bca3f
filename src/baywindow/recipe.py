"""Recipes: which techniques, in which order, with which settings, as one line, a TOML table or a Python object.

    self_extend(group_tokens=8) + snapkv(budget_tokens=1024) | hybrid(k=20) > chain_of_agents

``+`` joins what works inside the model, ``>`` is the order in which context flows outside it, ``|`` stands between the two.
The line is a Python expression of names, calls with literal keyword arguments and these three operators, so Python's own
parser reads it; nothing is ever evaluated but literals.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import pydantic

from baywindow import registry
from baywindow.errors import BayError, CapabilityError, RecipeError
from baywindow.registry import ROOMS, Technique

LONGEST = 2000  # characters of a line
EXAMPLE = "e.g. snapkv(budget_tokens=1024) | hybrid(k=20) > chain_of_agents"


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. ``inside`` and ``outside`` hold technique objects in order; both may be empty (`stock`)."""

    inside: tuple[Technique, ...] = ()
    outside: tuple[Technique, ...] = ()

    def __post_init__(self) -> None:
        _check(self.inside, self.outside)

    def __str__(self) -> str:
        """Canonical form: options in declared order, only those that differ from the default."""
        return self._write(_part)

    @property
    def hash(self) -> str:
        """Sixteen hex digits over the names and *all* option values, so a changed default changes the hash."""
        return hashlib.sha256(self._write(_full_part).encode()).hexdigest()[:16]

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(need for part in (*self.inside, *self.outside) for need in part.needs)

    def with_defaults(self) -> Recipe:
        """The same recipe with a reader at its outside end: the design's default where none was named."""
        if self.outside and self.outside[-1].card.room == "context/read":
            return self
        reader = _from_line("default_inside" if self.inside or self.outside else "default")
        return Recipe(self.inside, (*self.outside, *reader.outside))

    def of_room(self, room: str) -> tuple[Technique, ...]:
        """Its techniques of one room, in order."""
        return tuple(part for part in (*self.inside, *self.outside) if part.card.room == room)

    def check_capabilities(self, capabilities: frozenset[str], model: str) -> None:
        """Raise CapabilityError naming the first technique that needs what the model lacks."""
        for part in (*self.inside, *self.outside):
            if missing := [n for n in part.needs if n not in capabilities and n not in ("embedder", "training")]:
                raise CapabilityError(
                    f"{part.card.name} needs {', '.join(missing)}, which {model} does not offer",
                    hint=f"{model} offers: {', '.join(sorted(capabilities)) or 'nothing beyond text'}",
                )

    def to_table(self) -> dict[str, list[dict[str, Any]]]:
        """As a TOML or JSON table: ``{"inside": [{"name": …, option: …}], "outside": […]}``, defaults left out."""
        return {
            side: [{"name": part.card.name, **_changed(part)} for part in parts]
            for side, parts in (("inside", self.inside), ("outside", self.outside))
            if parts
        }

    def _write(self, one: Any) -> str:
        sides = [" + ".join(map(one, self.inside)), " > ".join(map(one, self.outside))]
        return " | ".join(filter(None, sides)) or registry.RESERVED


def parse(source: str | Recipe | Mapping[str, Any]) -> Recipe:
    """A recipe from any of its three forms. Raises RecipeError with the place and a hint."""
    if isinstance(source, Recipe):
        return source
    if isinstance(source, Mapping):
        return _from_table(source)
    return _from_line(source)


def parse_many(line: str) -> list[Recipe]:
    """Several recipes separated by ``;`` (the bench only)."""
    return [parse(part) for part in line.split(";") if part.strip()]


def _from_line(line: str, depth: int = 0) -> Recipe:
    if not line.strip():
        raise RecipeError("the recipe is empty", hint=f"write {registry.RESERVED} for no technique, or {EXAMPLE}")
    if len(line) > LONGEST:  # servers take recipes from strangers, and Python's parser recurses
        raise RecipeError(f"the recipe has {len(line)} characters", hint=f"a recipe has at most {LONGEST}")
    try:
        tree = ast.parse(line.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        if ";" in line:
            raise RecipeError("a recipe holds no ';'", hint="`;` separates recipes in `bay bench --recipes` only") from None
        where = f" at column {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise RecipeError(f"the recipe does not parse{where}: {line.strip()!r}", hint=EXAMPLE) from None
    left, right = (tree, None) if not _has_bar(tree) else _split_bar(tree)
    parts = [*_build(left, line, depth)]
    if right is not None:
        if any(p.card.side != "inside" for p in parts):
            raise RecipeError("left of `|` stands a technique that works outside the model", hint="inside | outside; " + EXAMPLE)
        later = _build(right, line, depth)
        if any(p.card.side != "outside" for p in later):
            raise RecipeError("right of `|` stands a technique that works inside the model", hint="inside | outside; " + EXAMPLE)
        parts += later
    return Recipe(tuple(p for p in parts if p.card.side == "inside"), tuple(p for p in parts if p.card.side == "outside"))


def _has_bar(tree: ast.expr) -> bool:
    head = tree.left if isinstance(tree, ast.Compare) else tree
    return isinstance(head, ast.BinOp) and isinstance(head.op, ast.BitOr)


def _split_bar(tree: ast.expr) -> tuple[ast.expr, ast.expr]:
    """``a + b | c > d`` reads as ``(a + b | c) > d`` in Python; put the tail back behind its head."""
    if isinstance(tree, ast.Compare) and isinstance(tree.left, ast.BinOp):
        return tree.left.left, ast.Compare(tree.left.right, tree.ops, tree.comparators)
    assert isinstance(tree, ast.BinOp)
    return tree.left, tree.right


def _build(tree: ast.expr, line: str, depth: int) -> list[Technique]:
    """The technique objects of one side, in order; a preset's name stands for its parts."""
    if isinstance(tree, ast.Compare):
        if not all(isinstance(op, ast.Gt) for op in tree.ops):
            raise RecipeError(f"only `+`, `>` and `|` join techniques: {line.strip()!r}", hint=EXAMPLE)
        return [part for side in (tree.left, *tree.comparators) for part in _build(side, line, depth)]
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        parts = _build(tree.left, line, depth) + _build(tree.right, line, depth)
        if any(part.card.side == "outside" for part in parts):
            raise RecipeError("`+` joins techniques inside the model; outside it context flows with `>`", hint=EXAMPLE)
        return parts
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        raise RecipeError("a recipe has at most one `|`", hint=EXAMPLE)
    if isinstance(tree, ast.Name):
        return _named(tree.id, {}, depth)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        if tree.args or any(k.arg is None for k in tree.keywords):
            raise RecipeError(f"{tree.func.id}: options are given by name", hint=f"{tree.func.id}(option=value)")
        try:
            options = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
        except ValueError:
            raise RecipeError(f"{tree.func.id}: option values are numbers, strings, True, False, None or lists", hint=EXAMPLE) from None
        return _named(tree.func.id, options, depth)
    raise RecipeError(f"the recipe does not parse: {line.strip()!r}", hint=EXAMPLE)


def _named(name: str, options: dict[str, Any], depth: int) -> list[Technique]:
    if name == registry.RESERVED:
        if options:
            raise RecipeError(f"{name} takes no options")
        return []
    if preset := registry.presets().get(name):
        if options:
            raise RecipeError(f"{name} is a preset and takes no options", hint=f"write it out: {preset.recipe}")
        if depth > 8:
            raise RecipeError(f"preset {name} names itself")
        made = _from_line(preset.recipe, depth + 1)
        return [*made.inside, *made.outside]
    return [make(name, options)]


def make(name: str, options: Mapping[str, Any]) -> Technique:
    """One technique object; RecipeError for an unknown option (with the nearest) or a value of the wrong type."""
    cls = registry.get(name)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for option in options:
        if option not in fields:
            near = get_close_matches(option, fields, n=3, cutoff=0.0)
            raise RecipeError(f"{name} has no option {option!r}", hint=f"nearest: {', '.join(near)}" if near else f"{name} has no options")
    if missing := [option for option, f in fields.items() if _must_be_given(f) and option not in options]:
        raise RecipeError(f"{name} must be told {', '.join(missing)}", hint=f"{name}({missing[0]}=…); `bay show {name}` explains it")
    hints = get_type_hints(cls)
    checked = {option: _typed(name, fields[option], hints[option], value) for option, value in options.items()}
    try:
        return cls(**checked)
    except RecipeError:
        raise
    except BayError as error:
        raise RecipeError(f"{name}: {error.message}", hint=error.hint) from error


def _typed(name: str, field: dataclasses.Field[Any], kind: Any, value: Any) -> Any:
    """``value`` as the option's type. Strict, but through JSON, where lists may become tuples and 1 may become 1.0."""
    adapter = pydantic.TypeAdapter(kind, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    try:
        return adapter.validate_json(json.dumps(value), strict=True)
    except (pydantic.ValidationError, TypeError):
        wanted = str(kind) if get_args(kind) else getattr(kind, "__name__", str(kind))
        hint = f"it is a {wanted}" if _must_be_given(field) else f"default: {field.name}={field.default!r}"
        raise RecipeError(f"{name}: {field.name}={value!r} is not {wanted}", hint=hint) from None


def _from_table(table: Mapping[str, Any]) -> Recipe:
    if unknown := set(table) - {"inside", "outside"}:
        raise RecipeError(
            f"a recipe table has no {sorted(unknown)[0]!r}", hint="it has `inside` and `outside`, each a list of tables with `name`"
        )
    sides: dict[str, list[Technique]] = {"inside": [], "outside": []}
    for side, made in sides.items():
        for entry in table.get(side, ()):
            if not isinstance(entry, Mapping) or "name" not in entry:
                raise RecipeError(f"recipe.{side}: each entry is a table with `name`", hint='{ name = "hybrid", k = 20 }')
            made += _named(str(entry["name"]), {k: v for k, v in entry.items() if k != "name"}, 0)
        if wrong := [p.card.name for p in made if p.card.side != side]:
            raise RecipeError(f"{wrong[0]} does not work {side} the model", hint=f"its room is {registry.card(wrong[0]).room}")
    return Recipe(tuple(sides["inside"]), tuple(sides["outside"]))


def _check(inside: tuple[Technique, ...], outside: tuple[Technique, ...]) -> None:
    parts = (*inside, *outside)
    for i, part in enumerate(parts):
        for other in parts[:i]:
            if reason := _clash(other, part):
                raise RecipeError(f"{other.card.name} and {part.card.name} cannot stand in one recipe: {reason}", hint="choose one of them")
    for before, after in itertools.pairwise(outside):
        if ROOMS[before.card.room].order > ROOMS[after.card.room].order:
            raise RecipeError(
                f"{after.card.name} cannot follow {before.card.name}",
                hint="outside, context flows memory > retrieve > compress > read",
            )
    for i, part in enumerate(parts):
        part.check_with((*parts[:i], *parts[i + 1 :]))


def _clash(a: Technique, b: Technique) -> str:
    if a.card.slot and a.card.slot == b.card.slot:
        return f"both claim the slot {a.card.slot!r}"
    if a.card.room == b.card.room and ROOMS[a.card.room].single:
        return f"a recipe has one technique of the room {a.card.room}"
    return ""


def _changed(part: Technique) -> dict[str, Any]:
    """The options that must be written so that reading them makes the same object again; None only where it matters."""
    defaults = type(part)().options() if not _required(part) else {}
    changed = {k: v for k, v in part.options().items() if k not in defaults or defaults[k] != v}
    short = {k: v for k, v in changed.items() if v is not None}
    try:
        return short if type(part)(**short) == part else changed
    except (BayError, TypeError):
        return changed


def _required(part: Technique) -> bool:
    return any(_must_be_given(f) for f in dataclasses.fields(part))  # type: ignore[arg-type]


def _must_be_given(field: dataclasses.Field[Any]) -> bool:
    return field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _part(part: Technique) -> str:
    return _call(part.card.name, _changed(part))


def _full_part(part: Technique) -> str:
    return _call(part.card.name, part.options())


def _call(name: str, options: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())})" if options else name
