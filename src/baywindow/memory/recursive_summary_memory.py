"""One memory text per conversation, written anew after every session from the old text and the session; the open session stays word for
word.

Paper: Wang et al. 2023, Recursively Summarizing Enables Long-Term Dialogue Memory in Large Language Models, arXiv:2308.15022; read
beside it: github.com/qingyue2014/Rsum.
Idea: memory starts empty. When a session has ended, a model gets the old memory and the whole session and writes the new memory, at
most ``sentences`` sentences of facts about both speakers. A question sees the memory and all turns of the session that is still open.
Departs from the paper: see the card.
Shapes and units: ``summary_tokens`` of the model that writes; ``gap_hours`` between two turns part sessions that have no names.
Cost: one call a session, more where session and memory do not fit one window; recall makes none.
Errors: ConfigError for an option below its least. A spoilt reply leaves the old memory, and its turns are shown as they were said.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from baywindow.memory.base import MemorySystem, at_least
from baywindow.memory.records import Recalled, Record, Turn, of_record, of_turn
from baywindow.memory.sessions import sessions
from baywindow.memory.summaries import Folding, folded, sentences, unfolded
from baywindow.memory.work import Work
from baywindow.registry import technique

KIND = "memory"
RULES = (
    "Write the memory of a conversation anew: facts about both speakers, from the old summary and the new session, at most {} short "
    "sentences. Keep what still holds, put what changed in the place of what it changes, and name the person in every sentence."
)


@technique(
    summary="one text of facts about both speakers, written anew after each session",
    paper="arXiv:2308.15022",
    year=2023,
    claim="Replies from the recursive memory fit earlier sessions better than replies from as many tokens of raw turns.",
    departures=(
        "a sentence whose names or numbers neither the old memory nor the session holds is left out: nothing may be invented",
        "a session that does not fit the window is folded in parts; the paper's sessions always fit",
        "sentences above the cap are dropped from the end: models do not count; the paper only asks",
        "sessions without names are told apart by a pause: not everybody names them",
        "the reply is a checked form with its reasoning first, and has no in-context example unless the model is a base model",
    ),
)
class RecursiveSummaryMemory(MemorySystem):
    sentences: int = 20
    summary_tokens: int = 400
    gap_hours: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, sentences=1, summary_tokens=16, gap_hours=0)

    def absorb(self, work: Work, turns: Sequence[Turn]) -> None:
        *ended, _ = sessions(self._waiting(work), timedelta(hours=self.gap_hours)) or [[]]
        for session in ended:
            if not self._fold(work, session):
                return  # what comes later must wait: the memory is written in order

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        memory = self._memory(work)
        newest = [of_turn(turn) for turn in reversed(self._waiting(work))]
        shown = work.packed([*([of_record(memory)] if memory else []), *newest], budget_tokens)
        return [one for one in shown if one.record] + [one for one in reversed(shown) if not one.record]

    def _fold(self, work: Work, session: Sequence[Turn]) -> bool:
        """Write the memory anew with one session; whether all of it went in."""
        memory = self._memory(work)
        how = Folding(name="recursive summary", rules=RULES.format(self.sentences), summary_tokens=self.summary_tokens)
        text, left = folded(work, how, memory.text if memory else "", session)
        text = " ".join(sentences(text)[: self.sentences])
        used = [turn.id for turn in session if turn.id not in {one.id for one in left}]
        if used and memory:
            work.update(memory, text, [*memory.turns, *used], reason="a session ended")
        elif used:
            work.add(KIND, text, used, reason="the first session ended")
        return not left

    def _memory(self, work: Work) -> Record | None:
        kept = work.records(KIND)
        return kept[-1] if kept else None

    def _waiting(self, work: Work) -> list[Turn]:
        """The turns that are not in the memory yet, with those of the open session."""
        memory = self._memory(work)
        return unfolded(work, set(memory.turns) if memory else set())
