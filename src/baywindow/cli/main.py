"""The `bay` command itself: puts the commands together and turns every failure into one line and a hint.

Exit codes: 0 done, 1 a fault of Baywindow's own, 2 something the person can mend, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from baywindow.cli import ask, bench, chat, doctor, index, mcp, memory, models, prepare, search, serve, show, version
from baywindow.cli import list as list_
from baywindow.errors import BayError, Interrupted


class Commands(TyperGroup):
    """The group of all commands. It is here that errors meet the person, so no command handles them by itself."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (BayError, KeyboardInterrupt) as error:
            if ctx.params.get("debug"):
                raise
            raise typer.Exit(told(Interrupted("stopped") if isinstance(error, KeyboardInterrupt) else error)) from None
        except (BrokenPipeError, typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug") or type(error).__module__.startswith("typer."):
                raise  # the second: wrong usage, which Typer tells by itself
            told_of_fault(error)
            raise typer.Exit(1) from None


def told(error: BayError) -> int:
    """Print an error as one line and its hint as another; the exit code."""
    from baywindow.cli.output import complain

    complain(f"error: {error.message}" if error.exit_code == 2 else error.message)
    if error.hint:
        complain(f"hint: {error.hint}")
    return error.exit_code


def told_of_fault(error: Exception) -> None:
    """One line for what Baywindow did not foresee; the traceback is one flag away."""
    from baywindow.cli.output import complain

    complain(f"error: {type(error).__name__}: {' '.join(str(error).split())[:400]}")
    complain("hint: this is a fault of Baywindow; run with --debug for the traceback: bay --debug " + " ".join(sys.argv[1:2]) + " …")


app = typer.Typer(
    name="bay",
    cls=Commands,
    help="Ask long documents with any language model, inside a stated budget.",
    no_args_is_help=True,
    rich_markup_mode=None,  # Rich would double the time of `bay --help`
    pretty_exceptions_enable=False,
)


@app.callback()
def _globals(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Ask long documents with any language model, inside a stated budget."""


COMMANDS = (
    ask.ask,
    chat.chat,
    search.search,
    index.index,
    list_.list_techniques,
    show.show,
    models.models,
    prepare.prepare,
    serve.serve,
    mcp.mcp,
    doctor.doctor,
    version.version,
)

for command in COMMANDS:
    app.command(command.__name__.partition("_")[0])(command)

app.add_typer(bench.app, name="bench")
app.add_typer(memory.app, name="memory")
