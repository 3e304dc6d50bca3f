"""Flags that several commands share, and what they become: settings and a recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baywindow.errors import ConfigError

if TYPE_CHECKING:
    from baywindow.config import Settings
    from baywindow.recipe import Recipe

Model = Annotated[str | None, typer.Option("--model", "-m", help="Hub id, local folder, .gguf file, an endpoint's model, or `embedded`.")]
BaseUrl = Annotated[str | None, typer.Option("--base-url", help="OpenAI-compatible endpoint that serves the model.")]
Context = Annotated[int | None, typer.Option("--context", help="Window of the model in tokens, where it cannot be asked.")]
Concurrency = Annotated[int | None, typer.Option("--concurrency", help="Calls to an endpoint at the same time.")]
RecipeLine = Annotated[str | None, typer.Option("--recipe", "-r", help='Techniques to use, e.g. "hybrid(k=20) > rag".')]
Embedder = Annotated[str | None, typer.Option("--embedder", help="Embedding model: hub id, folder, or `embedded`.")]
Index = Annotated[str | None, typer.Option("--index", help="Where the index is kept: a folder or a LanceDB URI.")]
NoServer = Annotated[bool, typer.Option("--no-server", help="Load the model here, also where a running `bay serve` has it.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def settings_from(**flags: Any) -> Settings:
    """Settings with the flags that were given on top."""
    from baywindow.config import Settings

    return Settings(**flags)


def plan(line: str | None, settings: Settings, k: int | None) -> Recipe:
    """The recipe that will run, checked before anything is loaded; ``k`` goes to every technique that has such an option."""
    from baywindow import recipe
    from baywindow.context.ask import DEFAULT_RECIPE

    chosen = recipe.parse(settings.recipe_of(line) or DEFAULT_RECIPE).with_defaults()
    if k is None:
        return chosen
    if not any("k" in part.options() for part in chosen.outside):
        raise ConfigError(f"--k {k}: no technique of {chosen} has an option k", hint='name one that has, e.g. --recipe "hybrid > rag"')
    outside = tuple(replace(part, k=k) if "k" in part.options() else part for part in chosen.outside)  # type: ignore[type-var]
    return recipe.Recipe(chosen.inside, outside)


def worded(question: str) -> str:
    """The question, or an error before anything is read for it."""
    if not question.strip():
        raise ConfigError("the question is empty", hint='bay ask "What is …?" FILES')
    return question


def some(sources: list[str] | None) -> list[str]:
    """The sources, or an error that says how to name them: reading a whole folder unasked could cost hours."""
    if not sources:
        raise ConfigError("no documents were named", hint="name files, folders or globs, or - for standard input")
    return sources
