"""`bay memory edit`, `undo`, `forget`, `export`, `import` and `compact`: what changes the store, or writes a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baywindow.cli import flags, output
from baywindow.cli.memory import opening
from baywindow.errors import ConfigError


def edit(
    id: Annotated[str, typer.Argument(help="A memory, or the beginning of its id.")],
    text: Annotated[str, typer.Argument(help="What it shall say.")],
    store: opening.Store = None,
    user: opening.User = None,
    as_json: flags.Json = False,
) -> None:
    """Put your own words in place of a memory's; the old ones stay as history."""
    from baywindow.memory.records import plain

    with opening.opened(store, None, opening.scope_of(user, None, None)) as memory:
        made = memory.update(id, text)
    if as_json:
        output.tell_json(plain(made))
    else:
        output.say(f"{made.id} says it now; undo it with: bay memory undo {made.decision}")


def undo(
    decision: Annotated[str, typer.Argument(help="A decision's id, as `bay memory history` shows it.")],
    store: opening.Store = None,
    user: opening.User = None,
) -> None:
    """Take a decision back: what it replaced counts again."""
    with opening.opened(store, None, opening.scope_of(user, None, None)) as memory:
        done = memory.undo(decision)
    output.say(f"{done.id} ({done.action}) is undone")


def forget(
    id: Annotated[str | None, typer.Argument(help="A memory or turn, or the beginning of its id.")] = None,
    query: Annotated[str | None, typer.Option("--query", help="Everything that holds these words.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything of the user, or of the agent or session that is named.")] = False,
    keep_turns: Annotated[bool, typer.Option("--keep-turns", help="Leave what was said; forget only what was made of it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: opening.Store = None,
    user: opening.User = None,
    agent: opening.Agent = None,
    session: opening.Session = None,
) -> None:
    """Forget a memory with what it rests on, or all that holds some words; `compact` then clears the files."""
    if sum((id is not None, query is not None, everything)) != 1:
        raise ConfigError("what should be forgotten?", hint="give one of: an id, --query WORDS, --all")
    scope = opening.scope_of(user, agent, session)
    with opening.opened(store, None, scope) as memory:
        named = scope if everything else None
        said, made = memory.rests(id, query=query, scope=named)
        turns = 0 if keep_turns else len(said)
        if not turns and not made:
            output.remark("nothing holds these words" if query else "there is nothing to forget")
            return
        what = f"{output.counted(turns, 'turn')} and what was made of {'it' if turns == 1 else 'them'}" if turns else "this memory"
        if not yes and not typer.confirm(f"Forget {what}? This cannot be undone.", err=True):
            raise typer.Exit(2)
        gone = memory.forget(id, query=query, scope=named, keep_turns=keep_turns)
    output.say(f"forgot {output.counted(len(gone.turns), 'turn')} and {output.counted(len(gone.records), 'version')} of memories")
    output.remark("`bay memory compact` clears them from the files")


def export(
    path: Annotated[Path, typer.Argument(help="File to write, one JSON object a line.")],
    store: opening.Store = None,
    user: opening.User = None,
    agent: opening.Agent = None,
    session: opening.Session = None,
) -> None:
    """Write everything of a scope to a file that `bay memory import` reads."""
    with opening.opened(store, None, opening.scope_of(user, agent, session)) as memory:
        count = memory.export(path)
    output.say(f"wrote {count:,} turns and memories to {path}")


def import_(path: Annotated[Path, typer.Argument(help="A file that `bay memory export` wrote.")], store: opening.Store = None) -> None:
    """Read what `bay memory export` wrote; what is there already stays as it is."""
    with opening.opened(store) as memory:
        count = memory.import_(path)
    output.say(f"{count:,} turns and memories were new")


def compact(store: opening.Store = None) -> None:
    """Rewrite the files, so that nothing of what was forgotten is left in them."""
    with opening.opened(store) as memory:
        memory.compact()
        where = memory.where
    output.say(f"{where} holds only what is remembered")
