"""Runs the stages of a recipe before its reader, and the default retriever for a reader that was given no passages."""

from __future__ import annotations

from collections.abc import Sequence

from baywindow import recipe as recipes
from baywindow.context.base import Compressor, Retriever
from baywindow.context.prompt import passage_region
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.errors import RecipeError
from baywindow.registry import Technique

DEFAULT_RETRIEVER = "default_retriever"


def run_stages(run: Run, parts: Sequence[Technique]) -> list[Passage] | None:
    """Each stage in order; None if there is none, so that the reader knows to read everything."""
    passages: list[Passage] | None = None
    for part in parts:
        with run.stage(part.card.name) as regions:
            if isinstance(part, Retriever):
                passages = part.retrieve(run, run.question, passages)
                regions += [passage_region(p, 0, "retrieved") for p in passages]
            elif isinstance(part, Compressor):
                before = passages if passages is not None else list(run.corpus.passages())
                passages = part.compress(run, before)
                regions += [passage_region(p, run.model.count_tokens(p.text), "compressed") for p in passages]
            else:
                raise RecipeError(f"{part.card.name} cannot stand before a reader yet", hint=f"its room is {part.card.room}")
    if passages is not None:
        run.chose(passages)
    return passages


def best_passages(run: Run, passages: list[Passage] | None, k: int) -> list[Passage]:
    """The ``k`` best of what earlier stages chose; without earlier stages, what the default retriever finds."""
    if passages is None:
        retriever = recipes.parse(DEFAULT_RETRIEVER).outside
        passages = run_stages(run, retriever) or []
    return passages[:k]


def reading_order(passages: Sequence[Passage]) -> list[Passage]:
    """Sorted as they stand in the documents."""
    return sorted(passages, key=lambda p: (p.source, p.start))
