"""What a compressor keeps or drops: sentences, phrases and words of passages, as exact spans of their text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from baywindow.context.condensed import Span
from baywindow.documents.base import Passage
from baywindow.documents.words import STOP_WORDS

LONGEST = 600  # characters: a "sentence" of a table, of code or of a text without stops may be a page
# A sentence ends at its mark and white space (in scripts without spaces, at the mark), at a blank line, before a heading, a bullet or a
# row of a table. Plain line breaks do not end one: much text is wrapped.
_END = re.compile(
    r"(?m:(?<!^\d)(?<!^\d\d))[.!?][\"'”’»)\]]*(?=\s)|[。！？]+[」』”）]*|\n\s*\n|\n(?=\s*(?:[-*•#|>]|\d{1,3}[.)])\s)|(?<=[|:;{}])\n|\n(?=\s*\|)"
)
_WORD = re.compile(r"\S+")
_BORDER = re.compile(r"[.,;:!?()\[\]{}\"“”«»…—|]")


@dataclass(frozen=True)
class Unit:
    """A stretch of a passage's text: ``passage`` is its number in the list, ``start`` and ``end`` are characters of its text."""

    passage: int
    start: int
    end: int

    @property
    def span(self) -> Span:
        return self.start, self.end


def sentence_units(passages: Sequence[Passage]) -> list[Unit]:
    return [Unit(i, start, end) for i, p in enumerate(passages) for start, end in sentences(p.text)]


def sentences(text: str) -> list[Span]:
    """Spans that hold everything but white space at their edges; none is longer than `LONGEST`."""
    found: list[Span] = []
    start = 0
    for match in [*_END.finditer(text), None]:
        end = len(text) if match is None else match.end()
        found += _capped(text, start, end)
        start = end
    return found


def phrases(text: str) -> list[Span]:
    """Runs of words between function words and punctuation; a function word stands with what follows it."""
    found: list[Span] = []
    start: int | None = None
    content = False  # whether the phrase so far holds more than function words
    for match in _WORD.finditer(text):
        word = match.group()
        plain = re.sub(r"\W", "", word).lower()
        if start is not None and content and plain in STOP_WORDS:
            found.append((start, _last_end(text, start, match.start())))
            start, content = None, False
        start = match.start() if start is None else start
        content |= plain not in STOP_WORDS
        if _BORDER.search(word[-1]):
            found.append((start, match.end()))
            start, content = None, False
    if start is not None:
        found.append((start, len(text.rstrip())))
    return found


def words(text: str) -> list[Span]:
    """Runs without white space; of scripts that write none, pieces of a few characters."""
    return [piece for match in _WORD.finditer(text) for piece in _pieces(match.start(), match.group())]


def _pieces(start: int, word: str) -> Iterator[Span]:
    if len(word) > 4 and re.search(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]", word):
        for at in range(0, len(word), 2):
            yield start + at, start + min(at + 2, len(word))
    else:
        yield start, start + len(word)


def _capped(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while end - start > LONGEST:
        cut = max(text.rfind(" ", start, start + LONGEST), text.rfind("\n", start, start + LONGEST))
        cut = start + LONGEST if cut <= start else cut
        yield start, cut
        start = cut
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end


def _last_end(text: str, start: int, before: int) -> int:
    return start + len(text[start:before].rstrip())
