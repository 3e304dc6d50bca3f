"""The contract of this room: a memory system distils turns into records, and chooses what of them a prompt shows.

A system is an immutable object; all that changes lives in the store and is reached through the `Work` it is given, which is bound to
one scope and one system. Turns are stored word for word before a system sees them: what it makes is a layer that can be made again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from baywindow.budget import Budgeted
from baywindow.errors import ConfigError
from baywindow.memory.records import Recalled, Turn, of_record, of_turn
from baywindow.memory.work import Work
from baywindow.registry import Technique


class MemorySystem(Budgeted, Technique):
    """``budget_tokens`` is what recalled text may take of a prompt, in tokens of the model that is asked (``budget_fraction``: of its
    window). A system that keeps only turns needs nothing but `recall`.
    """

    default_budget_tokens: ClassVar[int] = 800

    def absorb(self, work: Work, turns: Sequence[Turn]) -> None:
        """Make records of new turns, in the order they were said, through ``work.add``, ``update``, ``retire`` and ``keep``.

        All of it is committed at once with the turns, or not at all. Whatever is raised here, the turns are kept and offered again
        with the next ones; so an error of a model may simply pass through.
        """

    @abstractmethod
    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        """What to put in the prompt for a question, in the order to show it; ``work.packed`` fills a budget with the best."""

    def search(self, work: Work, query: str, k: int) -> list[Recalled]:
        """The best ``k`` memories for a query, best first: this system's records, and turns where it has none."""
        found = [of_record(record, score) for record, score in work.near_records(query, k)]
        return found or [of_turn(turn, score) for turn, score in work.near_turns(query, k)]


def at_least(system: MemorySystem, **least: float) -> None:
    """Raise ConfigError for the first option below its least value: ``at_least(self, k=1, recent_turns=0)``."""
    for name, low in least.items():
        if getattr(system, name) < low:
            raise ConfigError.bad_value(name, getattr(system, name), f"at least {low}")
