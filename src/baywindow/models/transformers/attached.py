"""A local model with a recipe's inside half in place: the only bridge from models to the window engine."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from baywindow.models.base import LanguageModel
from baywindow.recipe import Recipe
from baywindow.registry import Technique
from baywindow.window import Runtime, attach

if TYPE_CHECKING:
    from baywindow.models.transformers.model import TransformersModel
    from baywindow.window.engine.cache import WindowCache


@contextmanager
def attached(model: TransformersModel, parts: Sequence[Technique]) -> Iterator[LanguageModel]:
    """A view of ``model`` through which every generation runs with ``parts``; the model itself is as before when this ends.

    The view's window is as long as the recipe's position scheme reaches, if that is longer than the model's own. What a cache drops is
    chosen once a prompt is whole, with the question in it.
    """
    with attach(model.model, Recipe(tuple(parts)), tokenizer=model.tokenizer) as runtime:
        view = copy.copy(model)
        view.new_cache = runtime.cache
        view.cache_phase = _tell
        view.context_length = max(model.context_length, runtime.reach())
        view.name = f"{model.name}+{runtime.recipe}"
        view.seen_inside = lambda: _remark(runtime)
        yield view


def _remark(runtime: Runtime) -> str:
    """One line on the last generation: what stayed of what was read, and what it held."""
    report = runtime.report()
    kept = [tokens for layer in report.kept for row in layer for tokens in row]
    share = f"{sum(kept) / len(kept):.0f} of {max(report.seen)} tokens a head" if kept and report.seen else "nothing"
    lines = [f"inside the model ({report.recipe}): kept {share}, {report.nbytes / 2**20:.1f} of {report.stock_nbytes / 2**20:.1f} MiB"]
    return "; ".join([*lines, *report.notes])


def _tell(cache: WindowCache, phase: str) -> None:
    if phase == "done":
        cache.close()
    else:
        cache.mode = "auto" if phase == "last" else "hold"
