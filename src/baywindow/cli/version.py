"""`bay version`: which Baywindow this is."""

from __future__ import annotations

from importlib.metadata import version as version_of

from baywindow.cli.output import say


def version() -> None:
    """Print the version."""
    say(f"baywindow {version_of('baywindow')}")
