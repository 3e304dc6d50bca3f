"""What a person types for models, recipes and pairs, and what it means."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baywindow.cli import output
from baywindow.errors import ConfigError

if TYPE_CHECKING:
    from baywindow.bench.base import Task
    from baywindow.config import Settings


def models(line: str) -> tuple[str, ...]:
    """Names with commas between them; one that ends with ``?`` is left out where it is not on this machine."""
    found = []
    for name in (part.strip() for part in line.split(",") if part.strip()):
        bare = name.removesuffix("?")
        if bare == name or converted(bare) != bare or Path(bare).expanduser().exists():
            found.append(bare)
        else:
            output.remark(f"left out: {bare} is not on this machine")
    return tuple(found)


def converted(name: str, settings: Settings | None = None) -> str:
    """The folder of a model that was converted from a .gguf of that name; any other name as it is, and one that ``settings`` say is served
    by an endpoint."""
    from baywindow.models import gguf, select

    if settings is not None and select.is_remote(name, settings):
        return name
    return next((str(folder) for folder, manifest in gguf.all_converted() if manifest.get("name") == name), name)


def recipe_lines(recipes: str) -> str:
    """Recipes as one line; ``@FILE`` names a file with one a line, where ``#`` begins a remark."""
    if not recipes.startswith("@"):
        return recipes
    try:
        lines = Path(recipes[1:]).expanduser().read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{recipes[1:]} cannot be read: {error.strerror}", hint="a text file with one recipe a line") from None
    return "; ".join(bare for line in lines if (bare := line.partition("#")[0].strip()))


def default_model(settings: Settings) -> str:
    from baywindow.models import select

    return settings.model or select.first_usable(settings).name


def options(texts: Iterable[str], tasks: Iterable[Task]) -> dict[str, Any]:
    """``NAME=VALUE`` of options that at least one of the tasks has; numbers, true, false and null mean themselves."""
    known = {name for task in tasks for name in task.options} - {"data"}  # files are named by --data
    found: dict[str, Any] = {}
    for text in texts:
        name, value = pair(text, "=", str)
        if name not in known:
            has = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"none of the tasks has an option {name!r}", hint=f"they have: {has}")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value.strip()
    return found


def pair(text: str, mark: str, kind: type) -> tuple[str, Any]:
    key, found, value = text.partition(mark)
    try:
        if not found:
            raise ValueError(text)
        return key.strip(), kind(value)
    except ValueError:
        raise ConfigError(f"{text!r} is not understood", hint=f"write it as NAME{mark}VALUE") from None
