"""Flags that the memory commands share, and the memory they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from baywindow.cli import flags, output

if TYPE_CHECKING:
    from baywindow.memory.answers import Listed
    from baywindow.memory.memory import Memory
    from baywindow.memory.records import Scope

Store = Annotated[str | None, typer.Option("--store", help="Where the memory is kept: a folder or a PostgreSQL URL.")]
System = Annotated[str | None, typer.Option("--system", help='Memory system, e.g. "turn_retrieval(k=10)".')]
User = Annotated[str | None, typer.Option("--user", help="Whose memory.")]
Agent = Annotated[str | None, typer.Option("--agent", help="Only what was said to this agent.")]
Session = Annotated[str | None, typer.Option("--session", help="Only what was said in this session.")]


def opened(store: str | None = None, system: str | None = None, scope: Scope | None = None) -> Memory:
    """The memory that the flags and the settings name; a model is loaded only when it is needed."""
    from baywindow.memory.memory import DEFAULT_SYSTEM, Memory
    from baywindow.memory.records import Scope

    return Memory(None, system or DEFAULT_SYSTEM, scope=scope or Scope(), settings=flags.settings_from(memory=store))


def scope_of(user: str | None, agent: str | None, session: str | None) -> Scope:
    from baywindow.memory.records import DEFAULT_USER, Scope

    return Scope(DEFAULT_USER if user is None else user, agent, session)


def row(one: Listed) -> tuple[str, str, str, str]:
    """Id, day, kind and text, as tables show them."""
    from baywindow.memory.records import Turn

    if isinstance(one, Turn):
        return one.id, f"{one.said_at:%Y-%m-%d}", "turn", output.clean(one.line)
    state = "" if one.current else " (history)"
    return one.id, f"{one.said_at:%Y-%m-%d}", one.kind + state, output.clean(one.text)
