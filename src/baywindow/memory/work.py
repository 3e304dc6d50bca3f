"""What a memory system may touch: one scope of the store, its own records in it, the embedder, the model, the clock.

Nothing is written while a system works. Changes are gathered, seen by every later look of the same work, and committed at once with the
turns they came from (`Changes`). So a model may think for minutes and nobody waits, and a process that is killed leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import ConfigError
from baywindow.memory.calls import Caller, Examples, Form
from baywindow.memory.prompting import packed
from baywindow.memory.records import Action, Decision, Recalled, Record, Scope, Turn, common_scope, new_id
from baywindow.memory.search import By, Near, same_text
from baywindow.models.base import LanguageModel, Prompt

if TYPE_CHECKING:
    from baywindow.memory.search import Finder
    from baywindow.memory.store import Store

Named = TypeVar("Named", Turn, Record)
CHARACTERS_PER_TOKEN = 4  # where neither a model nor a tokenizer counts


@dataclass
class Changes:
    """What one piece of work would write. ``new`` are ids of records that the store does not have yet; the others replace their row."""

    turns: list[Turn] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)


class Work:
    """One piece of work of one system in one scope. ``fresh`` are the turns to absorb; ``now`` stands still while it lasts."""

    def __init__(
        self, store: Store, finder: Finder, caller: Caller, *, scope: Scope, system: str, now: datetime, anew: bool = False
    ) -> None:
        self.scope = scope
        self.system = system
        self.now = now
        self.changes = Changes()
        self.fresh: tuple[Turn, ...] = ()
        self._store = store
        self._finder = finder
        self._caller = caller
        self._anew = anew  # the layer is made again: records that are stored do not count

    # The model and the embedder

    @property
    def model(self) -> LanguageModel:
        """CapabilityError where none was given."""
        return self._caller.model

    def ask(self, prompt: Prompt, form: type[Form], *, name: str, max_new_tokens: int = 256, examples: Examples = ()) -> Form | None:
        """A reply as a pydantic model, mended once; None if it could not be had. ``examples`` show base models the form."""
        return self._caller.ask(prompt, form, name=name, max_new_tokens=max_new_tokens, examples=examples)

    def say(
        self, prompt: Prompt, *, name: str, max_new_tokens: int = 256, examples: Examples = (), stop: tuple[str, ...] = ()
    ) -> str | None:
        """A reply as text, or None if the budget does not allow it. ContextLengthError if the prompt does not fit the window."""
        return self._caller.say(prompt, name=name, max_new_tokens=max_new_tokens, examples=examples, stop=stop)

    def room(self, prompt: Prompt, max_new_tokens: int) -> int:
        """Tokens that a prompt may still grow by beside its reply; negative if it is too long."""
        return self._caller.room(prompt, max_new_tokens)

    def note(self, text: str) -> None:
        """A remark that a person should see."""
        self._caller.note(text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (text, dim). MissingExtraError where there is no embedder."""
        return self._finder.embed(texts)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """The unit vector of a question, shape (dim,), to compare with those of texts."""
        return self._finder.embed_query(query)

    @property
    def embedder(self) -> str:
        """Whose vectors these are. A system that keeps vectors of its own keeps this beside them."""
        return self._finder.embedder

    def count_tokens(self, text: str) -> int:
        """Tokens of the model that will be asked; from characters where there is no model."""
        return self._caller.count_tokens(text, CHARACTERS_PER_TOKEN)

    def packed(self, found: Sequence[Recalled], budget_tokens: int) -> list[Recalled]:
        """The best of what was found, in its order, as much as fits the budget with fence and dates; equal texts once."""
        return packed(found, budget_tokens, self.count_tokens)

    # Looking

    def turns(self, ids: Sequence[str] | None = None, *, last: int | None = None) -> list[Turn]:
        """Turns of the scope in the order they were said, with the fresh ones: all, those of some ids, or the last few."""
        own = [t for t in self.fresh if ids is None or t.id in set(ids)]
        stored = self._store.turns(self.scope, ids=ids, last=last, until=self._until)
        merged = sorted({t.id: t for t in (*stored, *own)}.values(), key=lambda t: (t.n or 1 << 62, t.said_at))
        return merged if last is None else merged[-last:] if last else []

    def before(self, last: int) -> list[Turn]:
        """The last few turns that came before the fresh ones."""
        fresh = {t.id for t in self.fresh}
        return [t for t in self.turns(last=last + len(fresh)) if t.id not in fresh][-last:] if last else []

    def records(self, kind: str | None = None, *, past: bool = False) -> list[Record]:
        """This system's records in the scope, in the order they were made: the current ones, with ``past`` every version."""
        stored = [] if self._anew else self._store.records(self.scope, self.system, kind=kind, past=past)
        merged = {r.id: r for r in stored} | self.changes.records
        return [r for r in merged.values() if self._seen(r, kind) and (past or r.current)]

    def record(self, record_id: str) -> Record | None:
        """One record of this system that the scope may see, current or not."""
        if found := self.changes.records.get(record_id):
            return found
        stored = [] if self._anew else self._store.records(self.scope, self.system, ids=[record_id], past=True)
        return stored[0] if stored else None

    def near_turns(self, query: str, k: int, *, by: By = "both") -> list[tuple[Turn, float]]:
        """The best ``k`` stored turns for a query with their scores, best first; fresh ones are not among them."""
        fresh = {t.id for t in self.fresh}
        found = [(i, s) for i, s in self._finder.turns(self.scope, query, k + len(fresh), by) if i not in fresh]
        return _scored(found, self._store.turns(self.scope, ids=[i for i, _ in found], until=self._until))[:k]

    def near_records(self, query: str, k: int, *, kind: str | None = None, by: By = "both") -> list[tuple[Record, float]]:
        """The best ``k`` current records for a query with their scores, best first, with those of this very work."""
        staged, changed = self._staged(kind), self.changes.records
        found: Near = []
        if not self._anew:
            found = [x for x in self._finder.records(self.scope, self.system, query, k + len(changed), by, kind) if x[0] not in changed]
        stored = _scored(found, self._store.records(self.scope, self.system, ids=[i for i, _ in found])) if found else []
        if not staged:
            return stored[:k]
        candidates = [*(record for record, _ in stored), *staged]
        ranked = self._finder.ranked(query, [r.text for r in candidates], by)
        return [(candidates[at], score) for at, score in ranked[:k]]

    # Changing

    def add(
        self,
        kind: str,
        text: str,
        turns: Iterable[Turn | str],
        *,
        valid_from: datetime | None = None,
        data: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> Record:
        """A new memory that rests on ``turns``. The same text is kept once: a second one adds its turns to the first.

        ConfigError without a text, or without a turn of this scope that it rests on: nothing is remembered that nobody said.
        """
        sources = self._sources(turns)
        if (same := self._same(kind, text)) is not None:
            return self.keep(same, [t.id for t in sources], reason=reason)
        made = self._version(kind, text, sources, valid_from, data)
        return self._decided("ADD", reason, sources, after=made)

    def update(
        self,
        record: Record,
        text: str,
        turns: Iterable[Turn | str],
        *,
        valid_from: datetime | None = None,
        data: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> Record:
        """A new version in place of a current record; ``turns`` are all that the new text rests on. The old one stays as history.

        ``data`` None keeps the old version's.
        """
        old = self._current(record)
        sources = self._sources(turns)
        same = self._same(old.kind, text)
        if same is not None and same.id == old.id:
            return self.keep(old, [t.id for t in sources], reason=reason)
        made = same or self._version(old.kind, text, sources, valid_from, old.data if data is None else data)
        ended = valid_from or max(t.said_at for t in sources)
        gone = replace(old, retired_at=self.now, superseded_by=made.id, valid_to=old.valid_to or ended)
        return self._decided("UPDATE", reason, sources, before=gone, after=made)

    def retire(self, record: Record, turns: Iterable[Turn | str], *, valid_to: datetime | None = None, reason: str = "") -> Record:
        """A current record that some turns say no longer holds. It stays as history."""
        sources = self._sources(turns)
        ended = valid_to or max(t.said_at for t in sources)
        gone = replace(self._current(record), retired_at=self.now, valid_to=ended)
        self._decided("DELETE", reason, sources, before=gone)
        return gone

    def keep(self, record: Record, turns: Iterable[Turn | str], *, reason: str = "") -> Record:
        """Some turns say what a current record says already: it rests on them too."""
        old = self._current(record)
        sources = self._sources(turns)
        rests = tuple(dict.fromkeys((*old.turns, *(t.id for t in sources))))
        if rests == old.turns:
            return old
        kept = replace(old, turns=rests, said_at=max(old.said_at, *(t.said_at for t in sources)))
        kept = replace(kept, scope=common_scope([old.scope, *(t.scope for t in sources)]))
        return self._decided("NOOP", reason, sources, before=kept, after=kept)

    def annotate(self, record: Record, data: Mapping[str, Any]) -> Record:
        """Replace what a system notes beside a record (counts, links, keywords). No new version: it is not what anybody said."""
        noted = replace(self._latest(record), data=dict(data))
        self.changes.records[noted.id] = noted
        return noted

    # How

    @property
    def _until(self) -> int | None:
        """When a layer is made again, turns that came after the fresh ones are not there yet."""
        return max((t.n for t in self.fresh), default=0) or None if self._anew else None

    def _seen(self, record: Record, kind: str | None) -> bool:
        return self.scope.sees(record.scope) and kind in (None, record.kind)

    def _staged(self, kind: str | None) -> list[Record]:
        """Current records that this very work made or changed."""
        return [r for r in self.changes.records.values() if r.current and self._seen(r, kind)]

    def _sources(self, turns: Iterable[Turn | str]) -> list[Turn]:
        ids = list(dict.fromkeys(t if isinstance(t, str) else t.id for t in turns))
        found = {t.id: t for t in self.turns(ids)} if ids else {}
        if not ids or len(found) < len(ids):
            raise ConfigError("a memory must rest on turns that were said in its scope", hint="give the turns it comes from")
        return [found[i] for i in ids]

    def _same(self, kind: str, text: str) -> Record | None:
        """The current record of this kind with the same text, case and spacing aside."""
        key = same_text(text)
        staged = [r for r in self._staged(kind) if same_text(r.text) == key]
        if staged or self._anew:
            return staged[0] if staged else None
        stored = self._store.records(self.scope, self.system, kind=kind, text=text)
        return next((r for r in stored if r.id not in self.changes.records), None)

    def _version(
        self, kind: str, text: str, sources: Sequence[Turn], valid_from: datetime | None, data: Mapping[str, Any] | None
    ) -> Record:
        if not text.strip():
            raise ConfigError("a memory must have a text", hint="nothing was written for it")
        return Record(
            id=new_id("m"),
            system=self.system,
            kind=kind,
            text=text.strip(),
            scope=common_scope(t.scope for t in sources),
            turns=tuple(t.id for t in sources),
            said_at=max(t.said_at for t in sources),
            made_at=self.now,
            valid_from=valid_from,
            data=dict(data or {}),
        )

    def _latest(self, record: Record) -> Record:
        found = self.record(record.id)
        if found is None:
            raise ConfigError(f"there is no memory {record.id} in this scope", hint="it may have been forgotten")
        return found

    def _current(self, record: Record) -> Record:
        found = self._latest(record)
        if not found.current:
            raise ConfigError(f"the memory {record.id} is history already", hint=f"its newer version: {found.superseded_by or 'none'}")
        return found

    def _decided(
        self, action: Action, reason: str, sources: Sequence[Turn], *, before: Record | None = None, after: Record | None = None
    ) -> Record:
        """Gather the versions of one decision; the one that counts from now on."""
        decision = Decision(
            id=new_id("d"),
            action=action,
            system=self.system,
            scope=common_scope(t.scope for t in sources),
            made_at=self.now,
            before=before.id if before else "",
            after=after.id if after else "",
            reason=reason,
            turns=tuple(t.id for t in sources),
        )
        self.changes.decisions.append(decision)
        if before is not None:
            self.changes.records[before.id] = before
        if after is not None and after.id not in self.changes.records:
            self.changes.new |= {after.id} if self._stored(after) is None else set()
            self.changes.records[after.id] = replace(after, decision=after.decision or decision.id)
        last = after or before
        assert last is not None
        return self.changes.records[last.id]

    def _stored(self, record: Record) -> Record | None:
        found = self._store.records(self.scope, self.system, ids=[record.id], past=True)
        return found[0] if found else None


def _scored(found: Near, things: Iterable[Named]) -> list[tuple[Named, float]]:
    """What ids name, with their scores and in their order; an id that names nothing any more is left out."""
    by_id = {thing.id: thing for thing in things}
    return [(by_id[i], score) for i, score in found if i in by_id]
