"""`bay models`: which models could answer, which one would, and why; under which terms those that come along are."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from baywindow.cli import flags, output

if TYPE_CHECKING:
    from baywindow.models.select import Candidate


def models(model: flags.Model = None, base_url: flags.BaseUrl = None, as_json: flags.Json = False) -> None:
    """Show which models could answer, which would, and why."""
    from baywindow.models import select

    found = select.candidates(flags.settings_from(model=model, base_url=base_url))
    chosen = next((c for c in found if c.usable and c.source != "converted"), None)
    if as_json:
        output.tell_json([as_dict(c) | {"chosen": c is chosen} for c in found])
        return
    table = output.new_table("", "model", "usable", "why", "size", "terms")
    for candidate in found:
        size = output.size(candidate.bytes) if candidate.bytes else ""
        label = f" ({candidate.label})" if candidate.label else ""
        usable = "yes" if candidate.usable else "no"
        cells = (candidate.name + label, usable, candidate.why, size, candidate.licence)
        table.add_row("→" if candidate is chosen else "", *map(output.clean, cells))
    output.tabulate(table)
    if chosen is None:
        output.remark('none can be used; pip install "baywindow[local]", or name one with --model')
    elif output.at_terminal():
        output.say()
        output.say(f"`bay ask` would use {chosen.name}")


def as_dict(candidate: Candidate) -> dict[str, object]:
    return dataclasses.asdict(candidate) | {"path": str(candidate.path) if candidate.path else None}
