"""Finds techniques: one file in a room is one technique, its file stem is its name everywhere.

Names and cards are read from the source text (the literals in ``@technique(...)``), so listing three hundred techniques imports
none of them and needs no torch. `get` imports the one module that is asked for. Other people's techniques come through the
entry-point group ``baywindow.techniques``; they say their room in the decorator and are otherwise the same.

A *preset* is a named recipe: a file ``NAME.toml`` in the package's ``presets`` folder with ``summary`` and ``recipe``.
"""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import functools
import importlib
import importlib.metadata
import importlib.util
import re
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform

from baywindow.errors import ConfigError, MissingExtraError, RecipeError

NEEDS = frozenset({"text", "logprobs", "weights", "kv", "embedder", "tools", "training"})
ENTRY_POINTS = "baywindow.techniques"
RESERVED = "stock"
_READING = threading.RLock()  # a server's first requests come at once, and the parser of Python 3.11 fails in several threads


@dataclass(frozen=True)
class Room:
    """A folder of techniques of one kind. ``order`` sorts a recipe's side; ``single`` rooms take one technique a recipe."""

    path: str
    side: Literal["inside", "outside"]
    order: int
    single: bool
    what: str


ROOMS: dict[str, Room] = {
    room.path: room
    for room in (
        Room("window/positions", "inside", 0, True, "rotary angles and index maps"),
        Room("window/patterns", "inside", 1, True, "which keys a query may see"),
        Room("window/caches", "inside", 2, False, "what stays of K and V, and how"),
        Room("window/soft", "inside", 3, True, "learned memories"),
        Room("window/steering", "inside", 4, False, "directions in hidden states"),
        Room("window/decoding", "inside", 5, True, "how the next token is chosen"),
        Room("memory", "outside", 0, True, "what outlives a conversation"),
        Room("demonstrations", "outside", 1, True, "which examples the prompt shows"),
        Room("tools", "outside", 1, True, "which tools the prompt shows"),
        Room("prompts", "outside", 1, False, "how the prompt is phrased"),
        Room("code", "outside", 2, False, "which code the prompt shows"),
        Room("tables", "outside", 2, False, "which rows and columns the prompt shows"),
        Room("context/retrieve", "outside", 2, False, "which passages"),
        Room("context/compress", "outside", 3, False, "the same text, shorter"),
        Room("context/read", "outside", 4, True, "how to answer from it"),
    )
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a technique says of itself. ``claim`` is the paper's claim as one checkable sentence, never a figure measured here."""

    name: str
    room: str
    summary: str
    paper: str = ""
    year: int = 0
    needs: tuple[str, ...] = ("text",)
    claim: str = ""
    departures: tuple[str, ...] = ()  # each with its reason; empty means none known
    slot: str = ""  # two techniques of one recipe may not claim the same non-empty slot
    module: str = ""

    @property
    def side(self) -> str:
        return ROOMS[self.room].side

    def to_dict(self) -> dict[str, Any]:
        """The fields users see (``bay list --json``)."""
        public = ("name", "room", "summary", "paper", "year", "needs", "claim", "departures")
        return {name: getattr(self, name) for name in public}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named recipe."""

    name: str
    summary: str
    recipe: str


class Technique:
    """Base of every technique: a frozen dataclass whose fields are its options. The room's ``base.py`` adds its one method."""

    card: ClassVar[Card]

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs of the model: the card's needs, unless its options make it need less."""
        return self.card.needs

    def options(self) -> dict[str, Any]:
        """Every option with its value, in declared order."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}  # type: ignore[arg-type]

    def check_with(self, others: tuple[Technique, ...]) -> None:
        """Raise RecipeError if this cannot work beside ``others`` (its neighbours in one recipe). The default accepts all."""


T = TypeVar("T", bound=type)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def technique(
    *,
    summary: str,
    paper: str = "",
    year: int = 0,
    needs: tuple[str, ...] = ("text",),
    claim: str = "",
    departures: tuple[str, ...] = (),
    slot: str = "",
    room: str = "",
) -> Callable[[T], T]:
    """Make a class a technique: a frozen keyword-only dataclass with a card. Arguments must be literals (the card is read unimported)."""

    def decorate(cls: T) -> T:
        made: Any = dataclass(frozen=True, kw_only=True)(cls)
        name = cls.__module__.rpartition(".")[2]
        made.card = Card(
            name=name,
            room=room or _room_of(cls.__module__),
            summary=summary,
            paper=paper,
            year=year,
            needs=needs,
            claim=claim,
            departures=departures,
            slot=slot,
            module=cls.__module__,
        )
        check_card(made.card)
        return made  # type: ignore[no-any-return]

    return decorate


def check_card(card: Card) -> None:
    """Raise ConfigError for a card that breaks the rules of DESIGN: unknown room or need, no summary, or one above 90 characters."""
    if card.room not in ROOMS:
        raise ConfigError(f"technique {card.name!r}: unknown room {card.room!r}", hint="rooms: " + ", ".join(ROOMS))
    if unknown := set(card.needs) - NEEDS:
        raise ConfigError(f"technique {card.name!r}: unknown needs {sorted(unknown)}", hint="needs: " + ", ".join(sorted(NEEDS)))
    if not card.summary or len(card.summary) > 90:
        raise ConfigError(f"technique {card.name!r}: the summary must have 1 to 90 characters", hint=f"it has {len(card.summary)}")


def _room_of(module: str) -> str:
    return "/".join(module.split(".")[1:-1])


def cards(pattern: str = "*") -> list[Card]:
    """All cards whose name or room matches a wildcard pattern (``*llm*``, ``window/*``), sorted by room and name."""
    found = [
        c
        for c in _cards().values()
        if fnmatch.fnmatch(c.name, pattern) or fnmatch.fnmatch(c.room, pattern) or c.room.endswith("/" + pattern)
    ]
    rooms = list(ROOMS)
    return sorted(found, key=lambda c: (rooms.index(c.room), c.name))


def card(name: str) -> Card:
    """The card of one technique; RecipeError with the nearest three names if there is none."""
    try:
        return _cards()[name]
    except KeyError:
        raise unknown_name(name) from None


def get(name: str) -> type[Technique]:
    """The technique class of that name, importing its module only now."""
    found = card(name)
    try:
        module = importlib.import_module(found.module)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("torch", "transformers", "sentence_transformers", "safetensors"):
            raise MissingExtraError.of(f"{error.name} (needed by {name})", "local") from error
        raise
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Technique) and value.__module__ == found.module and "card" in vars(value)
    ]
    if len(classes) != 1:
        raise ConfigError(f"{found.module} defines {len(classes)} techniques", hint="one file, one technique")
    return classes[0]


def presets() -> dict[str, Preset]:
    """All presets that come with the package, by name."""
    return dict(_presets())


def unknown_name(name: str) -> RecipeError:
    """The error for a name that is neither a technique nor a preset, with the nearest three."""
    near = get_close_matches(name, [*_cards(), *_presets(), RESERVED], n=3, cutoff=0.0)
    return RecipeError(f"no technique is called {name!r}", hint=f"nearest: {', '.join(near)}; `bay list` shows all")


def clear() -> None:
    """Forget what was found, so that the next call looks again (for tests that add an installed package)."""
    _read_cards.cache_clear()
    _presets.cache_clear()


def _cards() -> dict[str, Card]:
    with _READING:
        return _read_cards()


@functools.cache
def _read_cards() -> dict[str, Card]:
    found: dict[str, Card] = {}
    root = Path(__file__).parent
    for room in ROOMS:
        for path in sorted((root / room).glob("*.py")) + sorted((root / room).glob("*/__init__.py")):
            stem = path.parent.name if path.name == "__init__.py" else path.stem
            if stem.startswith("_") or stem == "base" or (path.name == "__init__.py" and path.parent == root / room):
                continue
            if new := _read_card(path, stem, ".".join(["baywindow", *room.split("/"), stem]), room):
                _add(found, new)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        spec = importlib.util.find_spec(entry.module)
        if spec is None or spec.origin is None:
            raise ConfigError(f"entry point {entry.name!r} names a module that is not there: {entry.module}")
        if (new := _read_card(Path(spec.origin), entry.module.rpartition(".")[2], entry.module, "")) is None:
            raise ConfigError(f"{entry.module} holds no @technique", hint="decorate its one class with baywindow.registry.technique")
        _add(found, new)
    return found


def _add(found: dict[str, Card], new: Card) -> None:
    if new.name in found or new.name in _presets() or new.name == RESERVED:
        other = found[new.name].module if new.name in found else "a preset or reserved word"
        raise ConfigError(f"two things are called {new.name!r}: {new.module} and {other}", hint="names are unique across rooms")
    check_card(new)
    found[new.name] = new


def _read_card(path: Path, name: str, module: str, room: str) -> Card | None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "technique":
                try:
                    fields = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
                except ValueError as error:
                    raise ConfigError(f"{module}: @technique takes literals only", hint=str(error)) from error
                fields["room"] = fields.get("room") or room
                return Card(name=name, module=module, **fields)
    return None


@functools.cache
def _presets() -> dict[str, Preset]:
    found = {}
    for path in sorted((Path(__file__).parent / "presets").glob("*.toml")):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", path.stem):
            raise ConfigError(f"preset file name {path.name!r} is not a technique name")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found[path.stem] = Preset(name=path.stem, summary=table["summary"], recipe=table["recipe"])
    return found
