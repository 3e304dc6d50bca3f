"""`bay bench`: what holds up, on your model, at which length, at what cost."""

from __future__ import annotations

import typer

from baywindow.cli.bench import looking, measuring, owning

app = typer.Typer(
    invoke_without_command=True,
    help="Measure recipes on your model: quality, time and memory, with intervals.",
    rich_markup_mode=None,
)
app.callback()(measuring.bench)
app.command("tasks")(looking.list_tasks)
app.command("show")(looking.show_sample)
app.command("runs")(looking.list_runs)
app.command("report")(looking.report)
app.command("compare")(looking.compare)
app.command("own")(owning.own)
