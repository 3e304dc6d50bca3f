"""`bay search`: the best passages for some words. No language model is needed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from baywindow.cli import flags, opening, output

if TYPE_CHECKING:
    from baywindow.documents.base import Passage
    from baywindow.trace import Event

SHOWN = 300  # characters of a passage


def search(
    query: Annotated[str, typer.Argument(help="Words, or a question.")],
    sources: Annotated[list[str] | None, typer.Argument(help="Files, folders, globs, or - for standard input.")] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", "-r", help="Retrievers to use, e.g. full_text.")] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many passages.")] = 10,
    embedder: flags.Embedder = None,
    index: flags.Index = None,
    as_json: flags.Json = False,
) -> None:
    """Find passages; no language model is needed."""
    import baywindow
    from baywindow import recipe as recipes

    flags.worded(query)
    named = flags.some(sources)
    settings = flags.settings_from(embedder=embedder, index=index)
    chosen = {} if recipe is None else {"recipe": recipes.parse(settings.recipe_of(recipe) or "")}
    notes: list[str] = []
    with output.Progress() as progress:

        def hear(event: Event) -> None:
            if event.kind == "progress":
                progress(event.text)
            elif event.kind == "note":
                notes.append(event.text)

        corpus = opening.corpus(named, settings, progress)
        found = baywindow.search(query, corpus, k=k, settings=settings, on_event=hear, **chosen)
    if as_json:
        output.tell_json([dataclasses.asdict(p) for p in found])
        return
    show_passages(found)
    for note in notes:
        output.remark(f"note: {note}")


def show_passages(found: list[Passage]) -> None:
    """At a terminal place and text apart, in a pipe one line a passage: ``path:line<TAB>text``."""
    if not found:
        output.remark("nothing was found")
    for passage in found:
        if output.at_terminal():
            output.say(passage.place, style="cyan")
            output.say(f"    {output.shorten(passage.text, SHOWN)}")
        else:
            output.say(f"{passage.place}\t{output.shorten(passage.text, SHOWN)}")
