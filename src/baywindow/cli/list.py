"""`bay list`: every technique and preset, from cards that are read without importing anything."""

from __future__ import annotations

import itertools
from typing import Annotated

import typer

from baywindow import registry
from baywindow.cli import output
from baywindow.errors import ConfigError


def list_techniques(
    room: Annotated[str, typer.Argument(metavar="[ROOM]", help="A room (context/read or read) or a pattern of names (*llm*).")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="All fields of all cards as JSON.")] = False,
) -> None:
    """List the techniques, room by room."""
    found = registry.cards(room)
    presets = [p for p in registry.presets().values() if room in ("*", "presets") or _matches(p.name, room)]
    if not found and not presets:
        raise ConfigError(f"no room and no technique matches {room!r}", hint=f"rooms: {', '.join(registry.ROOMS)}, presets")
    if as_json:
        output.tell_json([c.to_dict() for c in found])
        return
    if output.at_terminal():
        for name, cards in itertools.groupby(found, key=lambda c: c.room):
            output.say(f"{name}: {registry.ROOMS[name].what}", style="bold")
            _table([(c.name, c.summary) for c in cards])
            output.say()
        if presets:
            output.say("presets: recipes with a name", style="bold")
    else:
        _table([(c.name, c.room, c.summary) for c in found])
    _table([(p.name, f"{p.recipe}: {p.summary}") if output.at_terminal() else (p.name, "presets", p.recipe) for p in presets])


def _matches(name: str, pattern: str) -> bool:
    import fnmatch

    return fnmatch.fnmatch(name, pattern)


def _table(rows: list[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = output.new_table(*("" for _ in rows[0]))
    table.show_header = False
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    output.tabulate(table)
