"""A system for the fault tests: every turn makes two facts and takes the place of a third, so that half an add would show."""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.memory.base import MemorySystem
from baywindow.memory.records import Recalled, Turn, of_record
from baywindow.memory.work import Work
from baywindow.registry import technique


@technique(room="memory", summary="two facts a turn, and which was the last", needs=("embedder",))
class Pairs(MemorySystem):
    embeds: bool = True  # False: vectors are made when they are first searched

    @property
    def needs(self) -> tuple[str, ...]:
        return self.card.needs if self.embeds else ()

    def absorb(self, work: Work, turns: Sequence[Turn]) -> None:
        for turn in turns:
            for kind in ("one", "two"):
                work.add(kind, f"{kind} of {turn.text}", [turn])
            last = [r for r in work.records("last") if r.scope == turn.scope]
            if last:
                work.update(last[0], f"last is {turn.text}", [turn])
            else:
                work.add("last", f"last is {turn.text}", [turn])

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        return work.packed([of_record(r) for r, _ in work.near_records(query, 10)], budget_tokens)
