"""`bay prepare`: run the offline step of techniques that calibrate to a model, once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baywindow.cli import flags, output


def prepare(
    recipe: Annotated[str, typer.Argument(help="The techniques to prepare, as in a recipe.")],
    texts: Annotated[list[str], typer.Argument(help="Files of natural text to calibrate on, several windows long together.")],
    model: flags.Model = None,
) -> None:
    """Calibrate techniques that need it to a model; what they find is kept for later runs."""
    from baywindow import recipe as recipes
    from baywindow.documents.extract import extract
    from baywindow.errors import ConfigError, SourceError
    from baywindow.models import select

    plan = recipes.parse(recipe)
    if not plan.inside or plan.outside:
        raise ConfigError("only techniques inside a model are prepared", hint="e.g. bay prepare 'longrope(factor=4)' book.txt --model M")
    missing = [name for name in texts if not Path(name).expanduser().is_file()]
    if missing:
        raise SourceError(f"{missing[0]} is not a file", hint="name text files to calibrate on")
    text = "".join(block.text for name in texts for block in extract(Path(name).expanduser()).blocks)
    opened = select.load(model, settings=flags.settings_from(model=model))
    for part in plan.inside:
        output.remark(f"preparing {part.card.name} for {opened.name}; Ctrl-C keeps what was found so far")
        output.say(str(opened.prepare(part, text)))
