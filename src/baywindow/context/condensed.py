"""Shorter text that still knows where it came from.

A `Passage` is an exact span. What a compressor makes of one may be less than a span: pieces with gaps between them, or words that a
model wrote. `Condensed` carries such a text together with the exact passage it was made from. It has that passage's place, so it gets
the same mark ``[n]`` in prompts, and every citation leads to the exact passage (`cited`), whose words are checked against the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from baywindow.documents.base import Passage

Span = tuple[int, int]

GAP = " … "  # between pieces that do not adjoin


@dataclass(frozen=True, kw_only=True)
class Condensed(Passage):
    """A shorter text for ``origin``, whose source, span, line, page and label it shares.

    ``pieces`` are the exact spans, in offsets of the document, that the text holds or, when a model wrote it (``written``), was made
    from. When nothing was written, the text is those pieces in order, joined by ``joint``.
    """

    origin: Passage
    pieces: tuple[Span, ...]
    joint: str = GAP
    written: bool = False


def cited(passage: Passage) -> Passage:
    """The exact passage that a citation of this one quotes."""
    return passage.origin if isinstance(passage, Condensed) else passage


def narrowed(passage: Passage, spans: Sequence[Span], joint: str = GAP) -> Passage | None:
    """Only these spans of a passage's text (in its own characters, sorted, not overlapping); None if there are none.

    Spans with nothing but white space between them become one. One span of an exact passage is an exact passage again.
    """
    runs = adjoined(passage.text, spans)
    if not runs:
        return None
    if isinstance(passage, Condensed):
        return _again(passage, runs, joint)
    if len(runs) == 1:
        return exact(passage, *runs[0])
    text = joint.join(passage.text[start:end] for start, end in runs)
    pieces = tuple((passage.start + start, passage.start + end) for start, end in runs)
    return _of(passage, text, pieces, joint, written=False)


def written(origin: Passage, text: str, pieces: Sequence[Span] | None = None) -> Condensed:
    """Words that a model wrote from a passage: from all of it, unless ``pieces`` (offsets of the document) say otherwise."""
    source = cited(origin)
    return _of(source, text, tuple(pieces if pieces is not None else [(source.start, source.end)]), GAP, written=True)


def exact(passage: Passage, start: int, end: int) -> Passage:
    """The part of an exact passage from ``start`` to ``end`` of its text."""
    line = None if passage.line is None else passage.line + passage.text.count("\n", 0, start)
    return replace(passage, text=passage.text[start:end], start=passage.start + start, end=passage.start + end, line=line)


def adjoined(text: str, spans: Sequence[Span]) -> list[Span]:
    """Spans without white space at their edges; those with only white space between them merged."""
    runs: list[Span] = []
    for start, end in (_trimmed(text, *span) for span in spans):
        if start >= end:
            continue
        if runs and not text[runs[-1][1] : start].strip():
            start = runs.pop()[0]
        runs.append((start, end))
    return runs


def _of(origin: Passage, text: str, pieces: tuple[Span, ...], joint: str, *, written: bool) -> Condensed:
    return Condensed(
        text=text,
        source=origin.source,
        start=origin.start,
        end=origin.end,
        line=origin.line,
        page=origin.page,
        label=origin.label,
        score=origin.score,
        origin=origin,
        pieces=pieces,
        joint=joint,
        written=written,
    )


def _again(passage: Condensed, runs: list[Span], joint: str) -> Condensed:
    """A condensed text narrowed once more: what was kept of its pieces; of written text, what it was made from does not change."""
    if passage.written:
        return replace(passage, text=joint.join(passage.text[start:end] for start, end in runs), joint=joint)
    pieces = [piece for start, end in runs for piece in _covered(passage, start, end)]
    source = passage.origin
    text = joint.join(source.text[start - source.start : end - source.start] for start, end in pieces)
    return replace(passage, text=text, pieces=tuple(pieces), joint=joint)


def _covered(passage: Condensed, start: int, end: int) -> Iterator[Span]:
    """Which parts of the document's pieces stand from ``start`` to ``end`` of the condensed text."""
    at = 0
    for first, last in passage.pieces:
        size = last - first
        low, high = max(start, at), min(end, at + size)
        if low < high:
            yield first + low - at, first + high - at
        at += size + len(passage.joint)


def _trimmed(text: str, start: int, end: int) -> Span:
    found = re.search(r"\S(?:.*\S)?", text[start:end], re.DOTALL)
    return (start + found.start(), start + found.end()) if found else (start, start)
