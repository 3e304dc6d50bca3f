"""`bay show NAME`: what a technique or a preset is, its options with their defaults, and where it departs from its paper."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from baywindow import registry
from baywindow.cli import describe, output
from baywindow.registry import Card, Preset


def show(
    name: Annotated[str, typer.Argument(help="A technique or a preset.")],
    as_json: Annotated[bool, typer.Option("--json", help="The card with its options as JSON.")] = False,
) -> None:
    """Show one technique or preset with its options."""
    if preset := registry.presets().get(name):
        _show_preset(preset, as_json)
    else:
        _show_card(registry.card(name), as_json)


def _show_preset(preset: Preset, as_json: bool) -> None:
    if as_json:
        output.tell_json(dataclasses.asdict(preset))
        return
    output.say(f"{preset.name} (preset): {preset.summary}", style="bold")
    output.say(f"recipe: {preset.recipe}")


def _show_card(card: Card, as_json: bool) -> None:
    options = describe.options_of(card)
    if as_json:
        output.tell_json(card.to_dict() | {"options": [dataclasses.asdict(o) for o in options]})
        return
    output.say(f"{card.name} ({card.room}): {card.summary}", style="bold")
    for label, value in (
        ("paper", f"{card.paper}, {card.year}" if card.paper else ""),
        ("claim", card.claim),
        ("needs", ", ".join(card.needs)),
    ):
        if value:
            output.say(f"{label}: {value}")
    nothing = "nothing known" if card.paper else "it has no paper"
    output.say("departs from the paper:" if card.departures else f"departs from the paper: {nothing}")
    for departure in card.departures:
        output.say(f"  - {departure}")
    output.say("options:" if options else "options: none")
    for option in options:
        default = f" = {option.default}" if option.default else " (must be given)"
        output.say(f"  {option.name}: {option.type}{default}" + (f"  # {option.comment}" if option.comment else ""))
    output.say(f"use: {card.name}" + (f"({options[0].name}=…)" if options else ""))
