"""Baywindow makes any language model work on more context than it was built for, inside a stated budget, and shows what that cost.

    import baywindow as bay
    answer = bay.ask("What is the notice period?", ["contracts/"], recipe="hybrid(k=20) > chain_of_agents")

Importing this loads no model library: every name below is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baywindow.budget import Budget, Usage
    from baywindow.config import Settings
    from baywindow.context.ask import ask, search
    from baywindow.documents.base import Document, Passage
    from baywindow.errors import BayError
    from baywindow.memory.memory import Memory
    from baywindow.models.select import load as load_model
    from baywindow.recipe import Recipe
    from baywindow.recipe import parse as parse_recipe
    from baywindow.trace import Answer, Citation, Event, Region, Step, Trace
    from baywindow.window import Prefilled, attach

_HOMES = {
    "Answer": "trace",
    "BayError": "errors",
    "Budget": "budget",
    "Citation": "trace",
    "Document": "documents.base",
    "Event": "trace",
    "Memory": "memory.memory",
    "Passage": "documents.base",
    "Prefilled": "window",
    "Recipe": "recipe",
    "Region": "trace",
    "Settings": "config",
    "Step": "trace",
    "Trace": "trace",
    "Usage": "budget",
    "ask": "context.ask",
    "attach": "window",
    "load_model": "models.select:load",
    "parse_recipe": "recipe:parse",
    "search": "context.ask",
}

__all__ = [
    "Answer",
    "BayError",
    "Budget",
    "Citation",
    "Document",
    "Event",
    "Memory",
    "Passage",
    "Prefilled",
    "Recipe",
    "Region",
    "Settings",
    "Step",
    "Trace",
    "Usage",
    "ask",
    "attach",
    "load_model",
    "parse_recipe",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'baywindow' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"baywindow.{module}"), attribute or name)


def __dir__() -> list[str]:
    return __all__
