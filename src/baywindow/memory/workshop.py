"""Where systems work on a store: one piece of work at a time in a home, committed with the turns it came from."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from baywindow.errors import BayError
from baywindow.memory.base import MemorySystem
from baywindow.memory.calls import Caller
from baywindow.memory.records import Decision, Record, Scope, Turn
from baywindow.memory.search import Finder
from baywindow.memory.store import Store
from baywindow.memory.store.meaning import Meaning
from baywindow.memory.work import Changes, Work

EDITED = "edited by a person"


class Workshop:
    """``clock`` says what time it is: for turns without one, and for decisions."""

    def __init__(self, store: Store, meaning: Meaning, finder: Finder, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._meaning = meaning
        self._finder = finder
        self.clock = clock

    def work(self, scope: Scope, system: str, caller: Caller, *, anew: bool = False) -> Work:
        """A `Work` that looks; what is changed through it is not committed here."""
        return Work(self._store, self._finder, caller, scope=scope, system=system, now=self.clock(), anew=anew)

    def take_in(self, system: MemorySystem, said: Sequence[Turn], scope: Scope, caller: Caller) -> tuple[list[Turn], list[Decision]]:
        """Store the turns that are new, and let the system absorb them, after those it could not absorb before."""
        with self._store.lock(scope.home):
            decisions: list[Decision] = []
            for batch in self._store.batches(scope.home, system.card.name):
                decisions += self._absorb(system, batch.turns, (), caller)
            new = self._new(said, scope)
            if new:
                decisions += self._absorb(system, new, new, caller)
        self.embed(system, scope)
        return new, decisions

    @contextmanager
    def working(self, system: MemorySystem, said: Sequence[Turn], scope: Scope, caller: Caller) -> Iterator[Work]:
        """A `Work` whose changes are committed with the turns at the end of the block; an error in it keeps the turns alone."""
        with self._store.lock(scope.home):
            new = self._new(said, scope)
            work = self.work(scope.home, system.card.name, caller)
            work.fresh = tuple(said)
            try:
                yield work
            except BaseException:
                self._commit(Changes(turns=new), system, ())
                raise
            self._commit(replace(work.changes, turns=new), system, new)
        self.embed(system, scope)

    def edit(self, record: Record, text: str) -> Record:
        """A person's wording in place of a current memory."""
        with self._store.lock(record.scope.home):
            work = self.work(record.scope.home, record.system, Caller(None))
            made = work.update(record, text, record.turns, reason=EDITED)
            self._store.commit(work.changes, record.system, (), "")
        return made

    def redo(self, system: MemorySystem, scope: Scope, caller: Caller) -> list[Decision]:
        """Make a system's layer again, home by home; each as a whole or not at all."""
        made: list[Decision] = []
        for home in sorted({t.scope.home for t in self._store.turns(scope)}, key=lambda s: s.agent or ""):
            with self._store.lock(home):
                work = self.work(home, system.card.name, caller, anew=True)
                batches = self._store.batches(home, system.card.name, again=True)
                for batch in batches:
                    work.fresh = batch.turns
                    system.absorb(work, batch.turns)
                seen = [t.id for batch in batches for t in batch.turns]
                self._store.commit(work.changes, system.card.name, seen, "", anew=home)
                made += work.changes.decisions
            self.embed(system, home)
        return made

    def embed(self, system: MemorySystem, scope: Scope) -> None:
        """Make the vectors of what is new, for a system that searches by meaning: the next search shall not wait for them."""
        if "embedder" in system.needs:
            self._meaning.complete_for(scope.user, system.card.name)

    def _new(self, said: Sequence[Turn], scope: Scope) -> list[Turn]:
        stored = {t.id for t in self._store.turns(scope.stored, ids=[t.id for t in said])}
        return [t for t in said if t.id not in stored]

    def _absorb(self, system: MemorySystem, said: Sequence[Turn], new: Sequence[Turn], caller: Caller) -> list[Decision]:
        """One batch, in one commit. Whatever happens to the system, what is new is stored."""
        work = self.work(said[0].scope.home, system.card.name, caller)
        work.fresh = tuple(said)
        try:
            system.absorb(work, work.fresh)
        except BayError as error:
            caller.note(f"kept as it was said, to be absorbed later: {error.message}")
            self._commit(Changes(turns=list(new)), system, ())
            return []
        except BaseException:
            self._commit(Changes(turns=list(new)), system, ())
            raise
        self._commit(replace(work.changes, turns=list(new)), system, said)
        return work.changes.decisions

    def _commit(self, changes: Changes, system: MemorySystem, seen: Sequence[Turn]) -> None:
        self._store.commit(changes, system.card.name, [t.id for t in seen], secrets.token_hex(8))
