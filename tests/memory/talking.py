"""A conversation with one memory system, for its tests: what `Memory` does with it, but the store is two dicts, so that a test takes
milliseconds. The contract suite runs every system on the real store.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from baywindow.documents.bm25 import Bm25, best_first
from baywindow.documents.words import words
from baywindow.errors import BayError
from baywindow.memory.calls import REPAIR_SYSTEM, Caller
from baywindow.memory.messages import turns_of
from baywindow.memory.prompting import rendered
from baywindow.memory.records import Decision, Record, Scope, Turn
from baywindow.memory.search import joined, same_text
from baywindow.memory.work import Work
from baywindow.models.base import Prompt

MONDAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
GARBAGE = "Sure! Here you go: {"
ANNA = Scope("anna")
Replies = Mapping[str, "str | list[str] | Callable[[Prompt], str]"]


class DictStore:
    def __init__(self) -> None:
        self.turn: dict[str, Turn] = {}
        self.record: dict[str, Record] = {}

    def turns(self, scope, *, ids=None, last=None, until=None):
        found = [t for t in self.turn.values() if scope.sees(t.scope) and (ids is None or t.id in ids) and (until is None or t.n <= until)]
        return found if last is None else found[-last:] if last else []

    def records(self, scope, system, *, kind=None, past=False, ids=None, text=None):
        return [
            r
            for r in self.record.values()
            if scope.sees(r.scope)
            and kind in (None, r.kind)
            and (past or r.current)
            and (ids is None or r.id in ids)
            and (text is None or same_text(r.text) == same_text(text))
        ]


class DictFinder:
    """Words by BM25; meaning is a bag of stems, hashed: texts that share words are near each other."""

    def __init__(self, store: DictStore) -> None:
        self.store = store

    def embed(self, texts):
        made = np.zeros((len(texts), 512), dtype=np.float32)
        for row, text in zip(made, texts, strict=True):
            for word in words(text):
                row[zlib.crc32(word.encode()) % 512] += 1
            row /= max(1e-9, float(np.linalg.norm(row)))
        return made

    embedder = "stems"

    def embed_query(self, query):
        return self.embed([query])[0]

    def turns(self, scope, query, k, by="both"):
        found = self.store.turns(scope)
        return [(found[at].id, score) for at, score in self.ranked(query, [t.line for t in found], by)][:k]

    def records(self, scope, system, query, k, by="both", kind=None):
        found = self.store.records(scope, system, kind=kind)
        return [(found[at].id, score) for at, score in self.ranked(query, [r.text for r in found], by)][:k]

    def ranked(self, query, texts, by="both"):
        if not texts:
            return []
        counted = Bm25(texts).scores(query)
        by_words = [(i, float(counted[i])) for i in best_first(counted, len(texts)) if counted[i] > 0]
        near = self.embed(texts) @ self.embed([query])[0]
        by_meaning = [(i, float(near[i])) for i in best_first(near, len(texts))]
        return {"words": by_words, "meaning": by_meaning, "both": joined(by_words, by_meaning, len(texts))}[by]


class Talk:
    """Messages of Anna unless a speaker is named, one a minute; ``texts`` and ``records`` show what the system made of them."""

    def __init__(self, system: Any, model: Any = None) -> None:
        self.system, self.model = system, model
        self.store = DictStore()
        self.finder = DictFinder(self.store)
        self.now = datetime(2023, 6, 1, tzinfo=UTC)
        self.said = 0
        self.waiting: list[Turn] = []  # what could not be absorbed
        self.decisions: list[Decision] = []
        self.notes: list[str] = []

    def add(self, *texts: str | Mapping[str, Any], session: str = "", **by: Any) -> None:
        made = []
        for text in texts:
            self.said += 1
            given = {"content": text} if isinstance(text, str) else dict(text)
            made.append({"role": "user", "name": "Anna", "said_at": MONDAY + timedelta(minutes=self.said)} | by | given)
        turns = turns_of(made, Scope("anna", session=session), None, self.now)
        with self.working([*self.waiting, *(t for t in turns if t.id not in self.store.turn)]) as work:
            try:
                self.system.absorb(work, work.fresh)
                self.waiting = []
            except BayError as error:
                self.notes.append(error.message)
                self.waiting = list(work.fresh)
                work.changes.records.clear()
                work.changes.decisions.clear()

    @contextmanager
    def working(self, fresh: list[Turn] | tuple[Turn, ...] = ()) -> Iterator[Work]:
        """A piece of work, committed with its turns at its end."""
        caller = Caller(self.model)
        caller.notes = self.notes
        self.now += timedelta(seconds=1)
        work = Work(self.store, self.finder, caller, scope=ANNA.home, system="test", now=self.now)
        work.fresh = tuple(fresh)
        yield work
        self.store.record.update(work.changes.records)
        self.decisions += work.changes.decisions
        for turn in work.fresh:
            self.store.turn.setdefault(turn.id, replace(turn, n=len(self.store.turn) + 1))

    def told(self, text: str, **by: Any) -> Turn:
        """One message as a turn that is not stored yet."""
        self.said += 1
        given = {"role": "user", "name": "Anna", "content": text, "said_at": MONDAY + timedelta(minutes=self.said)} | by
        return turns_of(given, ANNA, None, self.now)[0]

    def recall(self, query: str, budget_tokens: int = 800) -> list[str]:
        with self.working() as work:
            found = self.system.recall(work, query, budget_tokens)
            assert not work.changes.records, "a recall changes nothing"
            assert work.count_tokens(rendered(found)) <= budget_tokens
        return [one.text for one in found]

    def search(self, query: str, k: int = 10) -> list[str]:
        with self.working() as work:
            return [one.text for one in self.system.search(work, query, k)]

    def records(self, kind: str | None = None, *, past: bool = False) -> list[Record]:
        with self.working() as work:
            return work.records(kind, past=past)

    def texts(self, kind: str | None = None, *, past: bool = False) -> list[str]:
        return [r.text for r in self.records(kind, past=past)]

    def turn(self, text: str) -> Turn:
        return next(t for t in self.store.turn.values() if t.text == text)

    @property
    def prompts(self) -> list[str]:
        """What the model was asked, without its rules."""
        return [prompt[-1].content for prompt in self.model.prompts]


def by_rules(replies: Replies) -> Callable[[Prompt], str]:
    """Replies by what the system message begins with; of a list each in turn, its last again and again. A repair brings nothing."""

    def reply(prompt: Prompt) -> str:
        rules = prompt[0].content
        for start, said in replies.items():
            if rules.startswith(start):
                if callable(said):
                    return said(prompt)
                return said if isinstance(said, str) else said.pop(0) if len(said) > 1 else said[0]
        if rules == REPAIR_SYSTEM:
            return "No."
        raise AssertionError(f"nobody expected {rules[:60]!r}")

    return reply
