"""`bay memory list`, `search`, `show` and `history`: looking without changing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from baywindow.cli import flags, output
from baywindow.cli.memory import opening

if TYPE_CHECKING:
    from collections.abc import Iterable

    from baywindow.memory.answers import Listed

SHOWN = 300  # characters of a memory in a table


def list_memories(
    store: opening.Store = None,
    system: opening.System = None,
    user: opening.User = None,
    agent: opening.Agent = None,
    session: opening.Session = None,
    past: Annotated[bool, typer.Option("--past", help="Also versions that were replaced or ended.")] = False,
    said: Annotated[bool, typer.Option("--said", help="What was said, word for word, instead of what was made of it.")] = False,
    as_json: flags.Json = False,
) -> None:
    """List what is remembered."""
    from baywindow.memory.records import plain

    with opening.opened(store, system, opening.scope_of(user, agent, session)) as memory:
        found = memory.list(past=past, said=said)
        where = memory.where
    if as_json:
        output.tell_json([plain(one) for one in found])
        return
    _tabulate(found)
    if not found:
        output.remark(f"nothing is remembered in {where}")


def search(
    query: Annotated[str, typer.Argument(help="Words, or a question.")],
    k: Annotated[int, typer.Option("--k", min=1, help="How many memories.")] = 10,
    store: opening.Store = None,
    system: opening.System = None,
    user: opening.User = None,
    agent: opening.Agent = None,
    session: opening.Session = None,
    as_json: flags.Json = False,
) -> None:
    """Find memories by words and meaning."""
    from baywindow.memory.records import plain

    with opening.opened(store, system, opening.scope_of(user, agent, session)) as memory:
        found = memory.search(query, k=k)
    if as_json:
        output.tell_json([plain(one) for one in found])
        return
    table = output.new_table("id", "said", "kind", "memory")
    for one in found:
        table.add_row(one.id, f"{one.said_at:%Y-%m-%d}", one.kind, output.clean(output.shorten(one.text, SHOWN)))
    output.tabulate(table)
    if not found:
        output.remark("nothing was found")


def show(
    id: Annotated[str, typer.Argument(help="A memory or turn, or the beginning of its id.")],
    store: opening.Store = None,
    user: opening.User = None,
    as_json: flags.Json = False,
) -> None:
    """Show one memory, with everything known of it."""
    from baywindow.memory.records import plain

    with opening.opened(store, None, opening.scope_of(user, None, None)) as memory:
        table = plain(memory.get(id))
    if as_json:
        output.tell_json(table)
        return
    scope = table.pop("scope")
    for name, value in (table | {name: scope[name] for name in ("user", "agent", "session")}).items():
        if value not in ("", None, [], {}):
            output.say(f"{name}: {', '.join(value) if isinstance(value, list) else value}")


def history(
    id: Annotated[str, typer.Argument(help="A memory, or the beginning of its id.")],
    store: opening.Store = None,
    user: opening.User = None,
    as_json: flags.Json = False,
) -> None:
    """Show how a memory came to be: its versions, the decisions, and what was said."""
    from baywindow.memory.records import plain

    with opening.opened(store, None, opening.scope_of(user, None, None)) as memory:
        found = memory.history(id)
    if as_json:
        output.tell_json({name: [plain(one) for one in getattr(found, name)] for name in ("versions", "decisions", "turns")})
        return
    _tabulate(found.versions)
    table = output.new_table("decision", "made", "what", "why")
    for one in found.decisions:
        undone = ", undone" if one.undone_at else ""
        what = f"{one.action}{undone}: {one.before or '–'} → {one.after or '–'}"
        table.add_row(one.id, f"{one.made_at:%Y-%m-%d %H:%M}", what, output.clean(output.shorten(one.reason, SHOWN)))
    output.tabulate(table)
    _tabulate(found.turns)


def _tabulate(found: Iterable[Listed]) -> None:
    table = output.new_table("id", "said", "kind", "memory")
    for one in found:
        name, day, kind, text = opening.row(one)
        table.add_row(name, day, kind, output.shorten(text, SHOWN))
    output.tabulate(table)
