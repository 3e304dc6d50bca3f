"""`bay chat`: talk with a model that remembers, about documents or just so."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from baywindow.cli import flags, opening, output
from baywindow.errors import BayError, ConfigError

if TYPE_CHECKING:
    from baywindow.cli.chat.conversation import Conversation
    from baywindow.memory.records import Turn
    from baywindow.recipe import Recipe
    from baywindow.trace import Event

SESSION = "main"


def chat(
    sources: Annotated[list[str] | None, typer.Argument(help="Files, folders or globs to talk about.")] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help='Memory first, then what reads: "mem0(budget_tokens=800) > hybrid > stuff".')
    ] = None,
    session: Annotated[str, typer.Option("--session", help="Which conversation to go on with.")] = SESSION,
    new: Annotated[bool, typer.Option("--new", help="Begin a conversation, named by the time.")] = False,
    sessions: Annotated[bool, typer.Option("--sessions", help="List the conversations, and end.")] = False,
    user: Annotated[str | None, typer.Option("--user", help="Whose memory.")] = None,
    store: Annotated[str | None, typer.Option("--store", help="Where memories are kept: a folder or a PostgreSQL URL.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", "-b", help="Of one reply: tokens=4000,seconds=30 (any).")] = None,
    model: flags.Model = None,
    base_url: flags.BaseUrl = None,
    context: flags.Context = None,
    embedder: flags.Embedder = None,
    index: flags.Index = None,
) -> None:
    """Talk with a model that remembers."""
    from baywindow.budget import Budget
    from baywindow.cli.chat.conversation import Conversation
    from baywindow.memory.memory import DEFAULT_SYSTEM, Memory
    from baywindow.memory.records import Scope
    from baywindow.memory.records import Turn as Said

    settings = flags.settings_from(model=model, base_url=base_url, context=context, embedder=embedder, index=index)
    plan = flags.plan(recipe, settings, None)
    limits = Budget.parse(budget) if budget is not None else None
    _check(plan, recipe, bool(sources))
    person = Scope(user) if user else Scope()
    with ExitStack() as stack:
        progress = stack.enter_context(output.Progress())
        if sessions:
            kept = stack.enter_context(Memory(store, settings=settings, scope=person))
            _list_sessions([turn for turn in kept.list(said=True) if isinstance(turn, Said)])
            return
        corpus = opening.corpus(list(sources), settings, progress) if sources else None
        loaded = opening.model(settings, progress)
        stack.callback(loaded.close)
        system = next(iter(plan.of_room("memory")), DEFAULT_SYSTEM)
        kept = stack.enter_context(Memory(store, system, model=loaded, settings=settings, scope=person))  # type: ignore[arg-type]
        if plan.inside:
            plan.check_capabilities(loaded.capabilities, loaded.name)
            loaded = stack.enter_context(loaded.attached(plan.inside))
        name = f"{datetime.now():%Y%m%d-%H%M%S}" if new else session
        here = Scope(person.user, person.agent, name)
        progress.clear()
        _talk(Conversation(kept, loaded, plan, here, corpus=corpus, budget=limits, settings=settings), loaded.label)


def _check(plan: Recipe, recipe: str | None, sources: bool) -> None:
    if recipe and not sources and any(part.card.room.startswith("context/retrieve") for part in plan.outside):
        raise ConfigError("this recipe reads documents, and none were named", hint="bay chat FILES --recipe …")


def _list_sessions(turns: list[Turn]) -> None:
    """Every session with its turns and when it was last used."""
    counted: dict[str, list[Turn]] = {}
    for turn in turns:
        counted.setdefault(turn.scope.session or "", []).append(turn)
    for name, said in sorted(counted.items(), key=lambda pair: pair[1][-1].said_at):
        output.say(f"{name or '(none)'}\t{output.counted(len(said), 'turn')}\t{said[-1].said_at:%Y-%m-%d %H:%M}")


def _talk(conversation: Conversation, label: str) -> None:
    from baywindow.cli.chat import commands

    earlier = len(conversation.turns)
    output.remark(f"session {conversation.scope.session}: {output.counted(earlier, 'earlier turn')}; /help lists commands")
    if label:
        output.remark(f"{label}: take its answers as such")
    for line in _lines():
        if line.startswith("/"):
            if not commands.obey(line, conversation):
                return
            continue
        try:
            _exchange(conversation, line)
        except BayError as error:
            output.complain(f"error: {error.message}")
            if error.hint:
                output.complain(f"hint: {error.hint}")


def _exchange(conversation: Conversation, line: str) -> None:
    """One turn each way. Ctrl-C stops the reply; the person's words are kept all the same."""
    from baywindow.cli.ask import show_sources

    reply = None
    streamed: list[str] = []

    def hear(event: Event) -> None:
        if event.kind == "token":
            streamed.append(event.text)
            output.stream(event.text)

    try:
        reply = conversation.say(line, hear)
        if " ".join("".join(streamed).split()) != " ".join(reply.text.split()):
            output.stream("\n" if streamed else "")
            output.stream(reply.text)
        output.stream("\n")
        show_sources(reply.citations)
        for note in reply.notes:
            output.remark(f"note: {note}")
    except KeyboardInterrupt:
        output.stream("\n")
        output.remark("stopped")
    finally:
        for note in conversation.keep(line, reply).notes:
            output.remark(f"note: {note}")


def _lines() -> Iterator[str]:
    """What is typed, or the lines of a pipe; ends with Ctrl-D, or Ctrl-C at an empty prompt."""
    while True:
        try:
            line = input("you> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            return
        if line.strip():
            yield line.strip()
