"""How commands speak: Rich at a terminal, plain text in a pipe, results on stdout and everything else on stderr.

What documents and models say is data. It is printed without Rich markup, and characters that would command the terminal
(escape sequences, backspaces, changes of writing direction) are taken out first.
"""

from __future__ import annotations

import functools
import json
import sys
import time
import unicodedata
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.table import Table

WRITTEN_EVERY_S = 5.0  # progress in a log file: a line at most this often


@functools.cache
def _console(stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def clean(text: str) -> str:
    """``text`` without the characters that could command a terminal: controls but newline and tab, and direction overrides."""
    return "".join(c for c in text if c in "\n\t" or (unicodedata.category(c) not in ("Cc", "Cs") and c not in _DIRECTION))


_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def say(text: str = "", style: str | None = None, end: str = "\n") -> None:
    """Print to stdout; in a pipe exactly the text, unbroken and without colours."""
    if at_terminal():
        _console(False).print(clean(text), style=style, end=end, soft_wrap=True)
    else:
        sys.stdout.write(clean(text) + end)


def stream(piece: str) -> None:
    """Print a piece of text now, with no line end."""
    sys.stdout.write(clean(piece))
    sys.stdout.flush()


def remark(text: str) -> None:
    """Something about the work, not its result: to stderr."""
    _console(True).print(clean(text), style="dim", soft_wrap=True)


def complain(text: str) -> None:
    _console(True).print(clean(text), style="bold red" if text.startswith("error") else None, soft_wrap=True)


def tell_json(value: Any) -> None:
    """One JSON document to stdout, readable, with every character as it is."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def at_terminal() -> bool:
    """Whether a person reads stdout; asked without Rich, whose import would slow every piped command."""
    return sys.stdout.isatty()


def tabulate(table: Table) -> None:
    """A Rich table at a terminal; in a pipe tab-separated lines without a heading, for `cut` and `awk`."""
    if at_terminal():
        _console(False).print(table)
        return
    cells = [[clean(str(cell)) for cell in column.cells] for column in table.columns]
    for row in zip(*cells, strict=True):
        sys.stdout.write("\t".join(row) + "\n")


def new_table(*columns: str, title: str = "") -> Table:
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name)
    return table


class Progress:
    """Long work under way: one line that changes at a terminal, else a line now and then. Use as a context manager."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._written = time.monotonic()  # a short job writes nothing into a log

    def __enter__(self) -> Progress:
        return self

    def __call__(self, text: str) -> None:
        if _console(True).is_terminal:
            if self._status is None:
                self._status = _console(True).status(clean(text))
                self._status.start()
            self._status.update(clean(text))
        elif time.monotonic() - self._written >= WRITTEN_EVERY_S:
            self._written = time.monotonic()
            remark(text)

    def clear(self) -> None:
        """Take the line away, before something else is printed."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.clear()


def shorten(text: str, width: int) -> str:
    """One line of at most ``width`` characters, for showing; what is cut off is marked."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1].rstrip() + "…"


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def counted(count: int, noun: str, many: str = "") -> str:
    """``1 file``, ``2,000 files``; ``many`` is the plural where it is not made with an s."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
