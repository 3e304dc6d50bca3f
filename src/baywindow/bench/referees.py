"""Scores that no formula gives: who decides them, and for how long.

A scorer is a function of a reply and its turn, so what it needs besides, a judge or a test of entailment, stands beside it: the runner says
``with refereeing(judge=…, entailment=…)`` around scoring. The setting belongs to the context it is made in (threads begin without it),
nothing global is changed, and a scorer that finds nobody says which option would help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

from baywindow.bench.base import Scorer, Turn
from baywindow.errors import ConfigError

if TYPE_CHECKING:
    from baywindow.bench.entailment import Entailment
    from baywindow.bench.judge import Judge

Kind = Literal["judge", "entailment"]
NEEDS: dict[str, Kind] = {}  # scorer name to whom it asks; all others are formulas

_judge: ContextVar[Judge | None] = ContextVar("judge", default=None)
_entailment: ContextVar[Entailment | None] = ContextVar("entailment", default=None)


def refereed(kind: Kind) -> Callable[[Scorer], Scorer]:
    """Marks a scorer that asks a judge or a test of entailment. Stands below `metric`."""

    def mark(scorer: Scorer) -> Scorer:
        NEEDS[scorer.__name__] = kind
        return scorer

    return mark


@contextmanager
def refereeing(*, judge: Judge | None = None, entailment: Entailment | None = None) -> Iterator[None]:
    """Whom scorers ask while this lasts."""
    kept = _judge.set(judge), _entailment.set(entailment)
    try:
        yield
    finally:
        _judge.reset(kept[0])
        _entailment.reset(kept[1])


def the_judge() -> Judge:
    """Who judges now. ConfigError if nobody does."""
    if (judge := _judge.get()) is None:
        raise ConfigError(
            "this score is a language model's verdict, and no judge is named",
            hint="bay bench --judge MODEL, or `judge` in bay.toml",
        )
    return judge


def the_entailment() -> Entailment:
    """What tests entailment now. ConfigError if nothing does."""
    if (entailment := _entailment.get()) is None:
        raise ConfigError(
            "citations are scored by entailment, and nothing tests it",
            hint="bay bench --nli MODEL (a classifier trained on NLI), or --judge MODEL",
        )
    return entailment


def usable(turn: Turn) -> tuple[str, ...]:
    """The turn's scorer and those in ``metadata["also"]``, as far as somebody is there to decide them; the first is the score to report."""
    there = {"judge": _judge.get() is not None, "entailment": _entailment.get() is not None}
    names = dict.fromkeys((turn.scorer, *turn.metadata.get("also", ())))
    return tuple(name for name in names if name not in NEEDS or there[NEEDS[name]])
