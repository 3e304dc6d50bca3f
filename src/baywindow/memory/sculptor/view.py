"""A text cut into pieces, each shown, summarised or hidden; whatever is done to the view, the text itself stays whole.

A `View` is a value: every edit gives a new one, so earlier views can be kept to compare. The pieces' own texts, joined, are the text
that the first view was made of, always; so every edit can be taken back. Edits that make no sense raise ConfigError with a hint for
whoever asked, who may be a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from baywindow.errors import ConfigError

State = Literal["shown", "summarised", "hidden"]

STUB_CHARACTERS = 48  # of a hidden piece, so that a model can tell what it hid
EXCERPT_CHARACTERS = 80  # on each side of a match


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A span of the text. ``summary`` is what a model wrote to stand for it while its state is ``summarised``."""

    id: str
    text: str
    state: State = "shown"
    summary: str = ""

    @property
    def visible(self) -> str:
        """As the view shows it, its id in front."""
        if self.state == "summarised":
            return f"[{self.id}, summary] {self.summary}"
        if self.state == "hidden":
            start = " ".join(self.text[: 2 * STUB_CHARACTERS].split())[:STUB_CHARACTERS]
            return f"[{self.id}, hidden: {start}…]"
        return f"[{self.id}] {self.text.strip()}"


@dataclass(frozen=True)
class Match:
    """A place that a search found: the piece, and some of its own text."""

    piece: str
    excerpt: str


@dataclass(frozen=True)
class View:
    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> View:
        """One piece a text: ``p1``, ``p2``, …"""
        return cls(tuple(Piece(id=f"p{n}", text=text) for n, text in enumerate(texts, 1)))

    @property
    def text(self) -> str:
        """The whole text as it was given."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def visible(self) -> str:
        return "\n".join(piece.visible for piece in self.pieces)

    def piece(self, name: str) -> Piece:
        """The piece of that id; ConfigError if there is none."""
        for piece in self.pieces:
            if piece.id == name.strip():
                return piece
        shown = ", ".join(piece.id for piece in self.pieces[:20])
        raise ConfigError(f"there is no piece {name!r}", hint=f"the pieces are {shown}")

    def fragment(self, name: str, parts: int, cut: Callable[[str, int], int]) -> View:
        """Cut a piece into at most ``parts`` of about the same length; ``cut(text, near)`` gives a good place at or before ``near``."""
        piece = self.piece(name)
        if not 2 <= parts <= 64:
            raise ConfigError.bad_value("parts", parts, "from 2 to 64")
        texts, rest = [], piece.text
        for left in range(parts, 1, -1):
            if (at := cut(rest, len(rest) // left)) > 0:
                texts.append(rest[:at])
                rest = rest[at:]
        made = [Piece(id=f"{piece.id}.{n}", text=text) for n, text in enumerate([*texts, rest], 1) if text]
        if len(made) < 2:
            raise ConfigError(f"{piece.id} is too short to cut", hint="hide or summarise it as it is")
        return self._with(piece, *made)

    def summarise(self, name: str, summary: str) -> View:
        if not (summary := " ".join(summary.split())):
            raise ConfigError("the summary is empty", hint="write what the piece says in a sentence, or hide it")
        piece = self.piece(name)
        return self._with(piece, replace(piece, state="summarised", summary=summary))

    def hide(self, name: str) -> View:
        piece = self.piece(name)
        return self._with(piece, replace(piece, state="hidden"))

    def restore(self, name: str) -> View:
        """Show a piece as it was given; a summary that stood for it is forgotten."""
        piece = self.piece(name)
        return self._with(piece, replace(piece, state="shown", summary=""))

    def find(self, words: str) -> list[Match]:
        """Every place where these very words stand, in hidden pieces too; case aside."""
        wanted = re.compile(re.escape(words.strip()), re.IGNORECASE)
        found = []
        for piece in self.pieces if words.strip() else ():
            for place in wanted.finditer(piece.text):
                a, b = max(0, place.start() - EXCERPT_CHARACTERS), place.end() + EXCERPT_CHARACTERS
                found.append(Match(piece.id, " ".join(piece.text[a:b].split())))
        return found

    def _with(self, old: Piece, *new: Piece) -> View:
        at = self.pieces.index(old)
        return View((*self.pieces[:at], *new, *self.pieces[at + 1 :]))
