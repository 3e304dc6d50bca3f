"""`bay memory`: what is remembered, why, and how to change it or have it forgotten."""

from __future__ import annotations

import typer

from baywindow.cli.memory import changing, looking

app = typer.Typer(help="Look at what is remembered, change it, have it forgotten.", no_args_is_help=True, rich_markup_mode=None)
app.command("list")(looking.list_memories)
app.command("search")(looking.search)
app.command("show")(looking.show)
app.command("history")(looking.history)
app.command("edit")(changing.edit)
app.command("undo")(changing.undo)
app.command("forget")(changing.forget)
app.command("export")(changing.export)
app.command("import")(changing.import_)
app.command("compact")(changing.compact)
