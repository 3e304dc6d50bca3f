"""Keeping a budget in tokens of the target model, and saying what was dropped."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from baywindow.budget import Budgeted
from baywindow.context.compress._units import Unit, words
from baywindow.context.condensed import GAP, narrowed
from baywindow.context.run import Run
from baywindow.documents.base import Passage


def tokens_of(run: Run, passages: Sequence[Passage]) -> int:
    """Tokens of the passages' texts together; a prompt's fences come on top."""
    return sum(run.model.count_tokens(p.text) for p in passages)


def share(run: Run, options: Budgeted, passages: Sequence[Passage]) -> tuple[int, int]:
    """Tokens given, and the budget for them."""
    given = tokens_of(run, passages)
    return given, options.budget_of(given)


def best_units(run: Run, passages: Sequence[Passage], ranked: Sequence[Unit], budget: int, joint: str = GAP) -> list[Passage]:
    """The longest beginning of ``ranked`` (best first) whose text stays within the budget, as passages, that of the best unit first."""
    return longest(len(ranked), budget, lambda n: kept_of(passages, ranked[:n], joint), run)


def longest(most: int, budget: int, make: Callable[[int], list[Passage]], run: Run) -> list[Passage]:
    """``make(n)`` for the largest ``n`` up to ``most`` whose text stays within the budget; more of it must not be shorter."""
    n = bisect_right(range(most + 1), budget, key=lambda n: tokens_of(run, make(n))) - 1
    while n > 0 and tokens_of(run, made := make(n)) > budget:  # a joint may save a token, so counts are not quite monotone
        n -= 1
    return made if n > 0 else []


def kept_of(passages: Sequence[Passage], units: Sequence[Unit], joint: str = GAP) -> list[Passage]:
    """The passages with only these units of them left, in the order of each one's first unit; those without one are gone."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for unit in units:
        spans.setdefault(unit.passage, []).append(unit.span)
    made = (narrowed(passages[i], sorted(spans[i]), joint) for i in spans)
    return [p for p in made if p is not None]


def beginning(run: Run, passages: Sequence[Passage], budget: int) -> list[Passage]:
    """Whole passages from the front while they fit, and as many words of the next as still do."""
    units = [Unit(i, *span) for i, p in enumerate(passages) for span in words(p.text)]
    return best_units(run, passages, units, budget)


def say_dropped(run: Run, name: str, given: int, before: Sequence[Passage], after: Sequence[Passage]) -> None:
    """The note that every compressor leaves: tokens kept of those given, and the passages of which nothing is left."""
    left = {p.key[:1] + _outer(p) for p in after}
    gone = sum(not any(source == p.source and start < p.end and p.start < end for source, start, end in left) for p in before)
    kept = tokens_of(run, after)
    whole = f"; nothing is left of {gone} of {len(before)} passages" if gone else ""
    run.note(f"{name} kept {kept} of {given} tokens{whole}")


def _outer(passage: Passage) -> tuple[int, int]:
    pieces = getattr(passage, "pieces", ()) or ((passage.start, passage.end),)
    return pieces[0][0], pieces[-1][1]
