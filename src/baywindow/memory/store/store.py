"""The store of turns, records and decisions: looks that see one scope, and changes that happen wholly or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from baywindow.errors import ConfigError
from baywindow.memory.records import Decision, Record, Scope, Turn
from baywindow.memory.search import Near
from baywindow.memory.store import facts, forgetting, words
from baywindow.memory.store.database import Database
from baywindow.memory.store.forgetting import Forgotten
from baywindow.memory.store.held import Held
from baywindow.memory.store.rows import decision_of, decision_row, digest, record_of, record_row, turn_of, turn_row, within
from baywindow.memory.store.tables import absorbed, decisions, items, records, sources, turns
from baywindow.memory.store.words import Numbered

if TYPE_CHECKING:
    from baywindow.memory.portable import Everything
    from baywindow.memory.work import Changes

SHORTEST_ID = 4
IDS_AT_ONCE = 5000  # SQLite takes some 32,000 values in a statement
# Asked at every search, and built once: that takes longer than running them.
_TURNS = sa.select(turns).where(turns.c.id.in_(sa.bindparam("ids", expanding=True)))
_IDS = sa.select(items.c.n, items.c.id).where(items.c.n.in_(sa.bindparam("numbers", expanding=True)))


@dataclass(frozen=True)
class Batch:
    """Turns that came in one call."""

    name: str
    turns: tuple[Turn, ...]


class Store:
    """By folder or PostgreSQL URL; made if it is not there. MemoryStoreError where that cannot be."""

    def __init__(self, where: str | Path) -> None:
        self.database = Database(where)
        self._held = Held()
        self._shelves: dict[tuple[str, str], int] = {}
        self._seen: dict[tuple[str, Scope], tuple[int, int]] = {}  # what `_seen_up_to` found, with how often something had been taken out
        with self.database.reading() as connection:
            whole = words.agree(connection)
        if not whole:
            with self.database.writing() as connection:
                words.mend(connection)
                facts.count(connection, facts.COMMITS)

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def lock(self, scope: Scope) -> Iterator[None]:
        """One piece of work at a time in what a user says to an agent: systems compare what is new with what is there."""
        with self.database.lock("home", scope.user, scope.agent or ""):
            yield

    # Looking

    def turns(self, scope: Scope, *, ids: Sequence[str] | None = None, last: int | None = None, until: int | None = None) -> list[Turn]:
        """Turns the scope sees in the order they came: all, those of some ids, or the last few; with ``until`` none with a later number."""
        asked = sa.select(turns).where(*within(turns, scope)) if ids is None else _TURNS
        asked = asked if until is None else asked.where(turns.c.n <= until)
        asked = asked.order_by(turns.c.n) if last is None else asked.order_by(turns.c.n.desc()).limit(last)
        with self.database.outside_transactions() as connection:
            found = [turn_of(row) for row in connection.execute(asked, {} if ids is None else {"ids": ids}).mappings()]
        # Asked for by id the scope is looked at here: SQLite would go through all that a user said to find a few ids among it.
        found = [turn for turn in found if scope.sees(turn.scope)]
        return found if last is None else found[::-1]

    def records(
        self,
        scope: Scope,
        system: str | None = None,
        *,
        kind: str | None = None,
        past: bool = False,
        ids: Sequence[str] | None = None,
        text: str | None = None,
    ) -> list[Record]:
        """Records the scope sees, oldest first: the current ones, with ``past`` every version; of one system, kind, ids, or equal text."""
        named = within(records, scope) if ids is None else [records.c.id.in_(ids)]
        asked = sa.select(records).where(*named).order_by(records.c.n)
        asked = asked if system is None or ids is not None else asked.where(records.c.system == system)
        asked = asked if past else asked.where(records.c.retired_at.is_(None))
        asked = asked if kind is None else asked.where(records.c.kind == kind)
        asked = asked if text is None else asked.where(records.c.digest == digest(text))
        with self.database.reading() as connection:
            rows = connection.execute(asked).mappings().all()
            rests = _sources(connection, [row["id"] for row in rows])
        found = [record_of(row, rests.get(row["id"], ())) for row in rows]
        return [r for r in found if scope.sees(r.scope) and system in (None, r.system)]  # for those asked for by id, as in `turns`

    def one(self, scope: Scope, id: str) -> Turn | Record:
        """A turn or record by its id or the beginning of it. ConfigError if the scope sees none such, or several."""
        found: list[Turn | Record] = []
        with self.database.reading() as connection:
            for table, of in ((turns, turn_of), (records, lambda row: record_of(row, ()))):
                asked = sa.select(table).where(*within(table, scope), table.c.id.startswith(id, autoescape=True)).limit(2)
                found += [of(row) for row in connection.execute(asked).mappings()]
            exact = [one for one in found if one.id == id] or found
            if len(exact) != 1 or len(id) < SHORTEST_ID:
                what = "several memories begin with" if len(exact) > 1 else "there is no memory"
                raise ConfigError(f"{what} {id!r} in this scope", hint="`bay memory list` shows what there is")
            one = exact[0]
            return one if isinstance(one, Turn) else replace(one, turns=_sources(connection, [one.id]).get(one.id, ()))

    def decisions(self, scope: Scope, *, ids: Sequence[str] | None = None, of: Iterable[str] = ()) -> list[Decision]:
        """Decisions the scope sees, in order: all, those of some ids, or those on some records."""
        asked = sa.select(decisions).where(*within(decisions, scope)).order_by(decisions.c.n)
        asked = asked if ids is None else asked.where(decisions.c.id.in_(ids))
        if of := list(of):
            asked = asked.where(sa.or_(decisions.c.before.in_(of), decisions.c.after.in_(of)))
        with self.database.reading() as connection:
            return [decision_of(row) for row in connection.execute(asked).mappings()]

    def versions(self, scope: Scope, record_id: str) -> list[Record]:
        """Every version of a memory that the scope sees, oldest first."""
        with self.database.reading() as connection:
            ids = forgetting.versions(connection, [record_id])
        return self.records(scope, None, past=True, ids=list(ids))

    def batches(self, scope: Scope, system: str, *, again: bool = False) -> list[Batch]:
        """Turns that a system has not seen yet (``again``: all), as they came together."""
        found: dict[str, list[Turn]] = {}
        with self.database.reading() as connection:
            if again:
                rows = connection.execute(sa.select(turns).where(*within(turns, scope)).order_by(turns.c.n)).mappings().all()
            else:
                rows = self._unseen(connection, scope, system)
        for row in rows:
            found.setdefault(row["batch"], []).append(turn_of(row))
        return [Batch(name, tuple(said)) for name, said in found.items()]

    def _unseen(self, connection: sa.Connection, scope: Scope, system: str) -> list[sa.RowMapping]:
        """Looked for beyond what was all seen the last time, for new turns come at the end. Forgetting may make a system see one again."""
        _, taken_out = facts.counts(connection)
        known, up_to = self._seen.get((system, scope), (taken_out, 0))
        up_to = up_to if known == taken_out else 0
        newest = connection.execute(sa.select(sa.func.max(turns.c.n))).scalar() or 0
        seen = sa.exists().where(absorbed.c.system == system, absorbed.c.turn == turns.c.id)
        asked = sa.select(turns).where(turns.c.n > up_to, ~seen).order_by(turns.c.n)
        asked = asked if up_to else asked.where(*within(turns, scope))  # else the few at the end are read, whosever they are
        found = [row for row in connection.execute(asked).mappings() if scope.sees(turn_of(row).scope)]
        self._seen[system, scope] = (taken_out, found[0]["n"] - 1 if found else newest)
        return found

    def seen(self, scope: Scope) -> dict[str, list[str]]:
        """The turns of a scope that each system has absorbed."""
        asked = sa.select(absorbed).join(turns, turns.c.id == absorbed.c.turn).where(*within(turns, scope)).order_by(turns.c.n)
        found: dict[str, list[str]] = {}
        with self.database.reading() as connection:
            for system, turn in connection.execute(asked):
                found.setdefault(system, []).append(turn)
        return found

    def shelf(self, system: str, user: str) -> int | None:
        """The number of what one system (empty: the turns) keeps of one user; None while there is nothing. Once given, it stays."""
        if (system, user) not in self._shelves:
            with self.database.outside_transactions() as connection:
                found = words.shelf_of(connection, system, user)
            if found is None:
                return None
            self._shelves[system, user] = found
        return self._shelves[system, user]

    def by_words(self, shelf: int, scope: Scope, query: str, k: int, kind: str | None) -> Numbered:
        """Numbers and BM25 scores, best first."""
        with self.database.reading() as connection:
            return words.by_words(self._held.look(connection), shelf, scope, query, k, kind)

    def named(self, found: Numbered) -> Near:
        """The same with ids; what was forgotten in the meantime is left out."""
        with self.database.outside_transactions() as connection:
            ids = dict(connection.execute(_IDS, {"numbers": [n for n, _ in found]}).all())
        return [(str(ids[n]), score) for n, score in found if n in ids]

    def numbers(self, shelf: int, scope: Scope, kind: str | None = None) -> NDArray[np.int64]:
        """Numbers of what a search may find on a shelf, ascending."""
        with self.database.reading() as connection:
            return words.listed(self._held.look(connection), shelf, scope, kind)[:, 0]

    def fact(self, name: str) -> str | None:
        """What the store says of itself."""
        with self.database.outside_transactions() as connection:
            return facts.get(connection, name)

    def set_fact(self, name: str, value: str) -> None:
        with self.database.writing() as connection:
            facts.put(connection, name, value)

    @property
    def changed(self) -> int:
        """Goes up with every commit, of any process."""
        return int(self.fact(facts.COMMITS) or 0)

    # Changing

    def commit(self, changes: Changes, system: str, seen: Iterable[str], batch: str, *, anew: Scope | None = None) -> None:
        """Turns, records, decisions and what was absorbed, wholly or not at all. ``anew`` drops the system's layer in a scope first.

        What rests on a turn that was forgotten in the meantime is left out.
        """
        with self.database.writing() as connection:
            if anew is not None:
                _drop_layer(connection, system, anew)
            known = _known(connection, [t.id for t in changes.turns])
            fresh = [t for t in changes.turns if t.id not in known]
            if fresh:
                connection.execute(turns.insert(), [turn_row(t, batch) for t in fresh])
            words.put(connection, fresh)
            kept = _resting(connection, changes)
            _write(connection, kept, changes.new)
            told = [d for d in changes.decisions if all(i in kept or i not in changes.records for i in (d.before, d.after) if i)]
            if told:
                connection.execute(decisions.insert(), [decision_row(d) for d in told])
            _mark_absorbed(connection, system, _known(connection, list(seen)))
            facts.count(connection, facts.COMMITS)

    def undo(self, decision: Decision, changed: Sequence[Record], now: datetime) -> None:
        """Mark a decision undone and write the records it had changed."""
        with self.database.writing() as connection:
            _write(connection, {r.id: r for r in changed}, set())
            connection.execute(decisions.update().where(decisions.c.id == decision.id).values(undone_at=now))
            facts.count(connection, facts.COMMITS)

    def bring_in(self, everything: Everything) -> int:
        """What another store exported, all or nothing; what is there already stays as it is. How many turns and records were new."""
        with self.database.writing() as connection:
            new = 0
            for name, said in everything.batches:
                known = _known(connection, [t.id for t in said])
                fresh = [t for t in said if t.id not in known]
                if fresh:
                    connection.execute(turns.insert(), [turn_row(t, name) for t in fresh])
                    words.put(connection, fresh)
                new += len(fresh)
            there = set(connection.execute(sa.select(records.c.id)).scalars())
            made = {r.id: r for r in everything.records if r.id not in there}
            _write(connection, made, set(made))
            told = set(connection.execute(sa.select(decisions.c.id)).scalars())
            if rows := [decision_row(d) for d in everything.decisions if d.id not in told]:
                connection.execute(decisions.insert(), rows)
            for system, ids in everything.seen.items():
                _mark_absorbed(connection, system, _known(connection, ids))
            facts.count(connection, facts.COMMITS)
        return new + len(made)

    def forget(self, scope: Scope, turn_ids: Iterable[str] = (), record_ids: Iterable[str] = ()) -> Forgotten:
        """Take turns and records of a scope out of every table, with all that rests on the turns."""
        with self.database.writing() as connection:
            said = _seen(connection, turns, scope, turn_ids)
            made = set(_seen(connection, records, scope, record_ids))
            gone = [forgetting.forget(connection, set(), made)] if made else []
            for at in range(0, len(said), IDS_AT_ONCE):
                gone.append(forgetting.forget(connection, set(said[at : at + IDS_AT_ONCE]), set()))
            facts.count(connection, facts.COMMITS)
        return Forgotten(*(tuple(i for one in gone for i in getattr(one, name)) for name in ("turns", "records", "numbers")))

    def holding(self, scope: Scope, text: str) -> tuple[set[str], set[str]]:
        """Ids of the turns and records of a scope whose text holds these words."""
        conditions = {"turns": within(turns, scope), "records": within(records, scope)}
        with self.database.reading() as connection:
            return forgetting.holding(connection, text, conditions)

    def turns_under(self, record_ids: Iterable[str]) -> set[str]:
        """The turns that some records rest on."""
        with self.database.reading() as connection:
            return forgetting.turns_under(connection, record_ids)

    def compact(self) -> None:
        """Rewrite the database so that nothing of what was forgotten is left in its files."""
        if self.database.postgres:
            with self.database.outside_transactions() as connection:
                connection.execute(sa.text("VACUUM FULL"))
            return
        with self.database.outside_transactions() as connection:
            connection.exec_driver_sql("VACUUM")
            busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
        if busy:
            raise self.database.busy()


def _sources(connection: sa.Connection, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for at in range(0, len(ids), IDS_AT_ONCE):
        asked = sa.select(sources.c.record, sources.c.turn).where(sources.c.record.in_(ids[at : at + IDS_AT_ONCE]))
        for record, turn in connection.execute(asked.order_by(sources.c.place)):
            found.setdefault(record, []).append(turn)
    return {record: tuple(said) for record, said in found.items()}


def _known(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for at in range(0, len(ids), IDS_AT_ONCE):
        found |= set(connection.execute(sa.select(turns.c.id).where(turns.c.id.in_(ids[at : at + IDS_AT_ONCE]))).scalars())
    return found


def _seen(connection: sa.Connection, table: sa.Table, scope: Scope, ids: Iterable[str]) -> list[str]:
    wanted = list(ids)
    found: list[str] = []
    for at in range(0, len(wanted), IDS_AT_ONCE):
        asked = sa.select(table.c.id).where(*within(table, scope), table.c.id.in_(wanted[at : at + IDS_AT_ONCE]))
        found += connection.execute(asked).scalars()
    return found


def _resting(connection: sa.Connection, changes: Changes) -> dict[str, Record]:
    """The changed records of which every turn is there, and, of stored ones, which are there themselves."""
    if not changes.records:
        return {}
    said = _known(connection, list({i for r in changes.records.values() for i in r.turns}))
    stored = [i for i in changes.records if i not in changes.new]
    there = set(connection.execute(sa.select(records.c.id).where(records.c.id.in_(stored))).scalars())
    kept = {i: r for i, r in changes.records.items() if (i in changes.new or i in there) and said.issuperset(r.turns)}
    # One that made way for a version that could not be written does not make way.
    return {
        i: replace(r, retired_at=None, superseded_by="", valid_to=None)
        if r.superseded_by in changes.new and r.superseded_by not in kept
        else r
        for i, r in kept.items()
    }


def _write(connection: sa.Connection, changed: dict[str, Record], new: set[str]) -> None:
    for record in changed.values():
        row = record_row(record)
        if record.id in new:
            connection.execute(records.insert().values(row))
        else:
            connection.execute(records.update().where(records.c.id == record.id).values(row))
            connection.execute(sources.delete().where(sources.c.record == record.id))
        rests = [{"record": record.id, "turn": turn, "place": at} for at, turn in enumerate(record.turns)]
        connection.execute(sources.insert(), rests)
    words.put(connection, [r for r in changed.values() if r.current])
    words.take_out(connection, [r for r in changed.values() if not r.current])


def _drop_layer(connection: sa.Connection, system: str, scope: Scope) -> None:
    """Everything that a system made in a scope, and that it saw the turns."""
    asked = sa.select(records).where(records.c.system == system, *within(records, scope))
    gone = [record_of(row, ()) for row in connection.execute(asked).mappings()]
    words.take_out(connection, gone)
    for at in range(0, len(gone), IDS_AT_ONCE):
        ids = [r.id for r in gone[at : at + IDS_AT_ONCE]]
        connection.execute(sources.delete().where(sources.c.record.in_(ids)))
        connection.execute(records.delete().where(records.c.id.in_(ids)))
    connection.execute(decisions.delete().where(decisions.c.system == system, *within(decisions, scope)))


def _mark_absorbed(connection: sa.Connection, system: str, ids: set[str]) -> None:
    there = sa.select(absorbed.c.turn).where(absorbed.c.system == system, absorbed.c.turn.in_(ids))
    new = ids - set(connection.execute(there).scalars())
    if new:
        connection.execute(absorbed.insert(), [{"system": system, "turn": i} for i in sorted(new)])
