"""Last turns: the end of the conversation, and nothing before it.

Idea: what a chat with a sliding window shows. Cheap, and blind to everything older; the floor for any memory.

Cost: no model call, no embedding. Errors: ConfigError for ``k`` below 1.
"""

from __future__ import annotations

from baywindow.errors import ConfigError
from baywindow.memory.base import MemorySystem
from baywindow.memory.prompting import packed_newest
from baywindow.memory.records import Recalled, of_turn
from baywindow.memory.work import Work
from baywindow.registry import technique


@technique(
    summary="the last k turns as they were said",
    claim="Recent turns alone lose every question whose answer lies further back.",
)
class LastTurns(MemorySystem):
    k: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise ConfigError.bad_value("k", self.k, "at least 1")

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        return packed_newest([of_turn(turn) for turn in work.turns(last=self.k)], budget_tokens, work.count_tokens)
