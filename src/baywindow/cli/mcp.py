"""`bay mcp`: documents and memory for other assistants, over the Model Context Protocol."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Annotated

import typer

from baywindow.cli import flags, opening, output
from baywindow.errors import ConfigError, MissingExtraError

HERE = "127.0.0.1"


def mcp(
    sources: Annotated[list[str] | None, typer.Argument(help="Files, folders or globs that may be asked about.")] = None,
    http: Annotated[bool, typer.Option("--http", help="Streamable HTTP on this machine's own address instead of standard input.")] = False,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port, with --http.")] = 7371,
    memory: Annotated[str | None, typer.Option("--memory", help="Memory system, e.g. mem0.")] = None,
    store: Annotated[str | None, typer.Option("--store", help="Where memories are kept: a folder or a PostgreSQL URL.")] = None,
    recipe: flags.RecipeLine = None,
    model: flags.Model = None,
    base_url: flags.BaseUrl = None,
    context: flags.Context = None,
    embedder: flags.Embedder = None,
) -> None:
    """Serve documents and memory to other assistants (MCP)."""
    settings = flags.settings_from(model=model, base_url=base_url, context=context, embedder=embedder)
    plan = flags.plan(recipe, settings, None)
    if recipe and not sources:
        raise ConfigError("a recipe needs documents to read", hint="bay mcp FILES --recipe …")
    try:
        from baywindow.memory.memory import DEFAULT_SYSTEM, Memory
        from baywindow.server.assistant import Assistant, make_server
    except ModuleNotFoundError as missing:
        raise MissingExtraError.of(f"what serves assistants ({missing.name})", "serve") from None
    with output.Progress() as progress:
        corpus = opening.corpus(list(sources), settings, progress) if sources else None
    kept = Memory(store, memory or DEFAULT_SYSTEM, settings=settings)
    assistant = Assistant(kept, corpus, partial(opening.model, settings, output.Progress()), plan)
    server = make_server(assistant, version("baywindow"))
    if http:
        output.remark(f"listening at http://{HERE}:{port}/mcp")
        server.run("streamable-http", host=HERE, port=port)
    else:
        server.run("stdio")
