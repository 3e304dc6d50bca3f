"""Full history: everything that was said, as far as the budget goes. What every memory is measured against.

Idea: no choice is made while there is room. Where there is none, the newest turns stay: what a chat does that only has its window.

Cost: no model call, no embedding; the prompt grows with the conversation, up to ``budget_tokens``.
Errors: none of its own.
"""

from __future__ import annotations

from typing import ClassVar

from baywindow.memory.base import MemorySystem
from baywindow.memory.prompting import packed_newest
from baywindow.memory.records import Recalled, of_turn
from baywindow.memory.work import Work
from baywindow.registry import technique


@technique(
    summary="every turn as it was said, the newest ones where not all fit",
    claim="A prompt with the whole conversation is the quality that a memory gives up as little of as it can.",
)
class FullHistory(MemorySystem):
    default_budget_tokens: ClassVar[int] = 1_000_000  # whatever fits the window: the reader's prompt ends it

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        return packed_newest([of_turn(turn) for turn in work.turns()], budget_tokens, work.count_tokens)
