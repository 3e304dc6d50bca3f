"""The three contracts of the text rooms. Text flows question → retrieve → [Passage] → compress → [Passage] → read → answer.

A technique is an immutable object; all that changes during one question lives in the `Run` it is given: the model, the corpus,
the meter, the trace. Every model call goes through `Run.call`, so nothing escapes the budget, the window or the trace.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from baywindow.budget import Usage
from baywindow.documents.base import Passage
from baywindow.registry import Technique

if TYPE_CHECKING:
    from baywindow.context.run import Run


class Retriever(Technique):
    """Chooses passages. The first of a recipe is given None and searches the corpus; a later one narrows what it is given."""

    @abstractmethod
    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        """Passages, best first. Every one is an exact span of its document."""


class Compressor(Technique):
    """Makes passages shorter within ``budget_tokens`` of the target model, without cutting loose where the text came from."""

    @abstractmethod
    def compress(self, run: Run, passages: list[Passage]) -> list[Passage]:
        """Exact sub-spans of the given passages, best first; what was dropped is reported through ``run.note``."""


class Reader(Technique):
    """Answers the question, in one call or many."""

    @abstractmethod
    def read(self, run: Run, passages: list[Passage] | None) -> str:
        """The answer with ``[n]`` marks (`Run.number` gives n). ``passages`` is None if no earlier stage chose any: read the corpus.

        Only the last call streams. When `Run.call` gives None (the budget is spent), answer from what there is.
        """

    def least(self, run: Run) -> Usage:
        """The least this can cost, from lengths alone; a budget below it is refused before the start."""
        fixed = run.model.count_tokens(run.question) + 64  # the shortest instructions of any reader
        return Usage(calls=1, prompt_tokens=fixed, generated_tokens=1)
