"""Pass rates: of the checks that one reply meets, and of several tries at one problem.

``metadata["checks"]`` is plain data, a list of ``[kind, value]``; nothing is run. Kinds: ``includes`` and ``excludes`` (a string, letter
case apart), ``number`` (occurs as a number), ``lines`` (how many lines are not blank), ``words_at_most``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import comb
from typing import Any

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics.order import numbers_in
from baywindow.errors import ConfigError

_KINDS: Mapping[str, Callable[[str, Any], bool]] = {
    "includes": lambda reply, value: str(value).lower() in reply.lower(),
    "excludes": lambda reply, value: str(value).lower() not in reply.lower(),
    "number": lambda reply, value: int(value) in numbers_in(reply),
    "lines": lambda reply, value: sum(bool(line.strip()) for line in reply.split("\n")) == int(value),
    "words_at_most": lambda reply, value: len(reply.split()) <= int(value),
}


@metric
def pass_rate(reply: str, turn: Turn) -> float:
    """Share of the turn's checks that the reply meets. ConfigError for a turn without checks or with one of unknown kind."""
    met = _met(reply, turn)
    return sum(met) / len(met)


@metric
def pass_all(reply: str, turn: Turn) -> float:
    """1 if the reply meets every check."""
    return float(all(_met(reply, turn)))


def _met(reply: str, turn: Turn) -> list[bool]:
    checks = turn.metadata.get("checks") or []
    if not checks:
        raise ConfigError("a sample scored by its checks has none", hint='put a list of [kind, value] into metadata["checks"]')
    if unknown := [kind for kind, _ in checks if kind not in _KINDS]:
        raise ConfigError.bad_value("check", unknown[0], "one of " + ", ".join(_KINDS))
    return [_KINDS[kind](reply, value) for kind, value in checks]


def pass_at_k(tries: int, passed: int, k: int) -> float:
    """Chance that at least one of k tries passes, estimated without bias from ``passed`` of ``tries``: 1 - C(n-c, k) / C(n, k)."""
    if not 0 <= passed <= tries or not 1 <= k <= tries:
        raise ConfigError(f"pass@{k} of {passed} passed in {tries} tries", hint="0 <= passed <= tries and 1 <= k <= tries")
    return 1 - comb(tries - passed, k) / comb(tries, k)
