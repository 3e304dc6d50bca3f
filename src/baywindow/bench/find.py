"""Finds suites, tasks and scorers: a file in ``bench/tasks`` is a suite, its stem is the suite's name."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

from baywindow.bench.base import SCORERS, Scorer, Suite, Task, Turn
from baywindow.errors import ConfigError


@functools.cache
def suites() -> dict[str, Suite]:
    """All suites by name, in order of their names."""
    found = {stem: importlib.import_module(f"baywindow.bench.tasks.{stem}").SUITE for stem in _stems("tasks")}
    for stem, suite in found.items():
        wrong = [t.name for t in suite.tasks if t.name != stem and not t.name.startswith(stem + ".")]
        if suite.name != stem or wrong:
            raise ConfigError(f"suite file {stem!r} holds {suite.name!r} with {wrong}", hint="a task is called suite.task")
    return found


def tasks(pattern: str) -> list[Task]:
    """The tasks of a suite (``ruler``), one task (``ruler.vt``) or a wildcard (``ruler.niah_*``); ConfigError with the nearest three."""
    every = {task.name: task for suite in suites().values() for task in suite.tasks}
    found = [t for name, t in every.items() if name == pattern or name.startswith(pattern + ".") or fnmatch(name, pattern)]
    if not found:
        near = get_close_matches(pattern, [*suites(), *every], n=3, cutoff=0.0)
        raise ConfigError(f"no bench task is called {pattern!r}", hint=f"nearest: {', '.join(near)}; `bay bench tasks` shows all")
    return found


def scorer(name: str) -> Scorer:
    """A scorer by name; ConfigError with the nearest three."""
    _load_metrics()
    if name not in SCORERS:
        near = get_close_matches(name, SCORERS, n=3, cutoff=0.0)
        raise ConfigError(f"no scorer is called {name!r}", hint=f"nearest: {', '.join(near)}")
    return SCORERS[name]


def score(reply: str, turn: Turn) -> float:
    """From 0 to 1. An empty reply scores 0 whatever the scorer, so that silence never counts as an answer."""
    return scorer(turn.scorer)(reply, turn) if reply.strip() else 0.0


@functools.cache
def _load_metrics() -> None:
    for stem in _stems("metrics"):
        importlib.import_module(f"baywindow.bench.metrics.{stem}")
    suites()


def _stems(folder: str) -> Iterator[str]:
    root = Path(__file__).parent / folder
    files = [*root.glob("*.py"), *(p.parent for p in root.glob("*/__init__.py"))]
    return iter(sorted(p.stem for p in files if not p.stem.startswith("_")))
