"""The three contracts of the text rooms. Text flows question → retrieve → [Passage] → compress → [Passage] → read → answer.

A technique is an immutable object; all that changes during one question lives in the `Run` it is given: the model, the corpus,
the meter, the trace. Every model call goes through `Run.call`, so nothing escapes the budget, the window or the trace.
"""

from __future__ import annotations

from abc import abstractmethod

from baywindow.budget import Usage
from baywindow.context.reply import question_frame
from baywindow.context.run import SHORTEST_ANSWER_TOKENS, Run
from baywindow.documents.base import Passage
from baywindow.registry import Technique

# Below this a passage with its fence and source says nothing.
SMALLEST_PASSAGE_TOKENS = 48


class Retriever(Technique):
    """Chooses passages. The first of a recipe is given None and searches the corpus; a later one narrows what it is given."""

    @abstractmethod
    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        """Passages, best first. Every one is an exact span of its document."""


class Compressor(Technique):
    """Makes passages shorter within ``budget_tokens`` of the target model, without cutting loose where the text came from."""

    @abstractmethod
    def compress(self, run: Run, passages: list[Passage]) -> list[Passage]:
        """Exact sub-spans of the given passages, or `Condensed` ones (pieces with gaps, or words that a model wrote, each with the
        exact passage it came from and is cited by), best first; what was dropped is reported through ``run.note``.
        """


class Reader(Technique):
    """Answers the question, in one call or many."""

    @abstractmethod
    def read(self, run: Run, passages: list[Passage] | None) -> str:
        """The answer with ``[n]`` marks (`Run.number` gives n). ``passages`` is None if no earlier stage chose any: read the corpus.

        Only the last call streams. When `Run.call` gives None (the budget is spent), answer from what there is.
        """

    def least(self, run: Run) -> Usage:
        """The least this can cost, from lengths alone; a budget below it is refused before the start."""
        prompt_tokens = run.model.count_tokens(question_frame(run, ())) + SMALLEST_PASSAGE_TOKENS
        return Usage(calls=1, prompt_tokens=prompt_tokens, generated_tokens=SHORTEST_ANSWER_TOKENS)


class NoteReader(Reader):
    """A reader that first takes notes: at least one call that reads and one that answers."""

    def least(self, run: Run) -> Usage:
        one = super().least(run)
        generated = 2 * SHORTEST_ANSWER_TOKENS
        return Usage(calls=2, prompt_tokens=2 * one.prompt_tokens, generated_tokens=generated)
