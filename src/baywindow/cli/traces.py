"""`--trace`: every step of a run, and what became of each stretch of context in it."""

from __future__ import annotations

from collections import Counter

from baywindow.cli import output
from baywindow.trace import Step, Trace

REGIONS_SHOWN = 20  # of one step


def show_trace(trace: Trace) -> None:
    output.say()
    output.say(f"Trace: {trace.recipe} [{trace.recipe_hash}] on {trace.model}", style="bold")
    table = output.new_table("step", "calls", "tokens in", "tokens out", "seconds", "context")
    for step in trace.steps:
        table.add_row(step.name, str(step.calls), f"{step.tokens_in:,}", f"{step.tokens_out:,}", f"{step.seconds:.2f}", fates(step))
    output.tabulate(table)
    for step in trace.steps:
        _show_regions(step)


def fates(step: Step) -> str:
    """Tokens by what became of them: ``1,200 passage kept; 300 passage left out``."""
    tokens: Counter[tuple[str, str]] = Counter()
    for region in step.regions:
        tokens[region.kind, region.fate.replace("_", " ")] += region.tokens
    return "; ".join(f"{count:,} {kind} {fate}" for (kind, fate), count in tokens.items())


def _show_regions(step: Step) -> None:
    if not step.regions:
        return
    output.say()
    output.say(f"{step.name}: {len(step.regions)} regions", style="bold")
    table = output.new_table("kind", "fate", "tokens", "source", "characters")
    for region in step.regions[:REGIONS_SHOWN]:
        where = f"{region.start}–{region.end}" if region.source is not None else ""
        table.add_row(region.kind, region.fate.replace("_", " "), f"{region.tokens:,}", output.clean(region.source or ""), where)
    output.tabulate(table)
    if (more := len(step.regions) - REGIONS_SHOWN) and more > 0:
        output.say(f"… and {more} more")
