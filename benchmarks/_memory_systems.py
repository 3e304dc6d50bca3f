"""Every memory system with the same small model: what it makes of a conversation, what its prompts hold, how the answers score.

Two sets. *whole*: whole conversations, for systems that write without a model, against all of the history that the window holds.
*beginning*: the first sessions of one conversation, for all systems; every pair of turns is one `add`, as a chat would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from _locomo import ANSWERABLE, Question, Talk, questions, recall, talks
from _memory_retrieval import refs_of, turns_under
from _rows import Rows

from baywindow import registry
from baywindow.bench.base import SCORERS
from baywindow.errors import BayError
from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope
from baywindow.models.base import Embedder, LanguageModel, Message, Sampling

BUDGET_TOKENS = 800
WINDOW_TOKENS = 4096  # full history is cut to it: prompts of 20,000 tokens take minutes each on a small machine
ANSWER_TOKENS = 32
ROOM_TOKENS = 128  # for the question and the answer beside the history
TURNS_A_CALL = 2
NO_MODEL = ("full_history", "last_turns(k=100)", "turn_retrieval(by='both', k=50)", "turn_retrieval(by='words', k=50)")
K = 10


@dataclass(frozen=True)
class Set:
    """Sessions of one conversation, and the questions that they can answer (of category 5: that ask about them)."""

    name: str
    talk: Talk
    questions: tuple[Question, ...]
    systems: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.name} {self.talk.name}"


@cache
def sets(sessions: int, most: int) -> tuple[Set, ...]:
    """The whole conversations with ``most`` questions of each kind, and the beginning of the shortest with all it can answer."""
    whole = []
    for name, talk in talks().items():
        mine = [q for q in questions() if q.talk == name and (q.evidence or q.category not in ANSWERABLE)]
        kinds = [[q for q in mine if q.category == category][:most] for category in (*ANSWERABLE, 5)]
        whole.append(Set("whole", talk, tuple(q for kind in kinds for q in kind), NO_MODEL))
    first = next(iter(talks().values()))
    begun = Talk(first.name, first.sessions[:sessions])
    held = set(begun.refs)
    about = tuple(q for q in questions() if q.talk == first.name and q.evidence and held.issuperset(q.evidence))
    return (Set("beginning", begun, about, (*NO_MODEL, *writers())), *whole)


def writers() -> list[str]:
    """The systems of the room that need a model to write, and those that only tidy."""
    plain = {line.partition("(")[0] for line in NO_MODEL}
    return [card.name for card in registry.cards("memory") if card.name not in plain]


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name, "") for name in ("part", "model", "set", "system", "id"))


@dataclass(frozen=True)
class Bench:
    """One model with everything it is measured with. ``over`` says whether the time is up, ``at_once`` how many systems run at a time."""

    name: str
    model: LanguageModel
    embedder: Embedder
    folder: Path
    rows: Rows
    over: Callable[[], bool]
    at_once: int = 1

    def run(self, chosen: Set, system: str) -> None:
        """Let a system read a set, then ask all questions; what is measured already is not measured again."""
        where = {"part": "systems", "model": self.name, "set": chosen.label, "system": system}
        if all(self.rows.has(where | {"id": one}) for one in ("read", *(q.id for q in chosen.questions))):
            return
        place = self.folder / "".join(c if c.isalnum() else "-" for c in f"{self.name} {chosen.label} {system}")
        with Memory(place, system, model=self.model, embedder=self.embedder) as memory:
            # The rows outlive the memory: on another machine it is read once more, and the first account of that stands.
            read = self.rows.has(where | {"id": "read"}) and memory.list(Scope(chosen.talk.name))
            if not read and not self._read(memory, chosen, where):
                return
            refs = refs_of(memory, Scope(chosen.talk.name))
            for question in chosen.questions:
                if self.over():
                    return
                if not self.rows.has(where | {"id": question.id}):
                    self.rows.add(where | {"id": question.id} | self._answered(memory, question, refs))

    def _read(self, memory: Memory, chosen: Set, where: dict[str, Any]) -> bool:
        """Whether the system has seen all turns. One that was stopped goes on where it was: turns that are there are not added again."""
        calls = tokens = 0
        notes: dict[str, None] = {}
        adds_s = []
        for some in pairs(chosen):
            if self.over():
                return False
            start = time.perf_counter()
            try:
                added = memory.add(some, Scope(chosen.talk.name))
            except BayError as error:
                self.rows.add(where | {"id": "read", "error": str(error)})
                return False
            adds_s.append(time.perf_counter() - start)
            calls, tokens = calls + added.usage.calls, tokens + added.usage.tokens
            notes |= dict.fromkeys(added.notes)
        made = [one for one in memory.list(Scope(chosen.talk.name)) if one.id.startswith("m")]
        told = {"calls": calls, "tokens": tokens, "seconds": adds_s, "records": len(made), "notes": list(notes), "at_once": self.at_once}
        if not self.rows.has(where | {"id": "read"}):
            self.rows.add(where | {"id": "read"} | told)
        return True

    def _answered(self, memory: Memory, question: Question, refs: Mapping[str, str]) -> dict[str, Any]:
        scope = Scope(question.talk)
        whole = memory.system.card.name == "full_history"
        start = time.perf_counter()
        try:
            found = turns_under(refs, memory.search(question.text, scope, K))
            told = memory.recall(question.text, scope, WINDOW_TOKENS - ROOM_TOKENS if whole else BUDGET_TOKENS)
            recall_s = time.perf_counter() - start
            prompt = (Message("user", f"{told.text}\n\n{question.sample.question}\nShort answer:".strip()),)
            done = self.model.generate(prompt, Sampling(max_new_tokens=ANSWER_TOKENS, stop=("\n",))).completion
        except BayError as error:
            return {"error": str(error), "category": question.category}
        shown = turns_under(refs, told.items)
        sample = question.sample
        answerable = bool(question.evidence) and question.category in ANSWERABLE
        return {
            "category": question.category,
            "score": SCORERS[sample.scorer](done.text, sample.asked[0]),
            "found": recall(question.evidence, found) if answerable else None,
            "found_turns": len({turn for one in found for turn in one}),
            "shown": recall(question.evidence, shown) if answerable else None,
            "memory_tokens": told.tokens,
            "prompt_tokens": done.prompt_tokens,
            "recall_seconds": round(recall_s, 3),
            "seconds": round(time.perf_counter() - start, 2),
            "text": done.text,
        }


def pairs(chosen: Set) -> Iterator[Sequence[dict[str, Any]]]:
    """What is added at once: two turns, or, of whole conversations, a session (no model reads those)."""
    step = TURNS_A_CALL if chosen.name == "beginning" else 1 << 20
    for session in chosen.talk.sessions:
        for at in range(0, len(session), step):
            yield session[at : at + step]


def history_tokens(model: LanguageModel, talk: Talk) -> int:
    """Tokens of the whole history as a prompt would show it."""
    return model.count_tokens("\n".join(f"- [{m['said_at']:%Y-%m-%d}] {m['name']}: {m['content']}" for m in talk.messages))
