"""What every kind of extraction gives: blocks of text with marks, one after the other, and remarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from baywindow.documents.base import Mark
from baywindow.errors import SourceError

# How the splitter may read the text: prose, Markdown structure, or a programming language named by its suffix.
Form = Literal["text", "markdown"]


@dataclass(frozen=True)
class Block:
    """A stretch of extracted text small enough for memory. Blocks adjoin: each starts where the last one ended.

    ``marks`` carry offsets of the whole document; a chunk never crosses from one block into the next.
    """

    text: str
    marks: tuple[Mark, ...] = ()


@dataclass
class Extraction:
    """A file's text as it is read. ``notes`` are complete only once ``blocks`` is exhausted."""

    blocks: Iterator[Block]
    form: Form = "text"
    paged: bool = False
    suffix: str = ""
    notes: list[str] = field(default_factory=list)


class NotTextError(SourceError):
    """A binary file: an error when a person named it, passed over and counted inside a folder."""


def unreadable(path: Path, error: OSError) -> SourceError:
    """The one-line error for a file the system refuses."""
    return SourceError(f"{path} cannot be read: {error.strerror or error}", hint="check its permissions")
