"""Shorter text that a model writes for stretches of passages, held to a number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from baywindow.context.compress._budget import tokens_of
from baywindow.context.compress._units import words
from baywindow.context.condensed import cited, narrowed
from baywindow.context.run import Run
from baywindow.documents.base import Passage


def joined(run: Run, passages: Sequence[Passage]) -> Passage:
    """Passages of one document, in its order, as one exact passage from the first's start to the last's end."""
    first, last = cited(passages[0]), cited(passages[-1])
    text = run.corpus.excerpt(first.source, first.start, last.end)
    return replace(first, text=text, end=last.end, score=max(p.score for p in passages))


def at_most(run: Run, passage: Passage, tokens: int) -> Passage | None:
    """The passage's beginning in whole words, within so many tokens; None if not one word fits."""
    if tokens_of(run, [passage]) <= tokens:
        return passage
    spans = words(passage.text)
    low, high = 0, len(spans)
    while low < high:
        middle = (low + high + 1) // 2
        part = narrowed(passage, spans[:middle])
        low, high = (middle, high) if part is not None and tokens_of(run, [part]) <= tokens else (low, middle - 1)
    return narrowed(passage, spans[:low])
