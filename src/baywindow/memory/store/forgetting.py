"""Forgetting: taking turns and memories out of every table, with all that was made of them, in one transaction.

A version of a memory that rests on a forgotten turn may hold its words: it goes too. Its other turns are offered to its system again,
and the version that had made way for it counts again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from baywindow.memory.records import Record
from baywindow.memory.store import words
from baywindow.memory.store.rows import record_of, turn_of
from baywindow.memory.store.tables import absorbed, decisions, records, sources, turns


@dataclass(frozen=True)
class Forgotten:
    """What was taken out: ids of turns and of memories (every version), and the numbers they were searched by."""

    turns: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()


def versions(connection: sa.Connection, ids: Iterable[str]) -> set[str]:
    """All versions of some memories, older and newer, also those that were undone: only a decision still leads to them."""
    found, new = set(ids), set(ids)
    before, after = decisions.c.before, decisions.c.after
    while new:
        links = (
            sa.select(records.c.superseded_by).where(records.c.id.in_(new), records.c.superseded_by != ""),
            sa.select(records.c.id).where(records.c.superseded_by.in_(new)),
            sa.select(after).where(before.in_(new), after != ""),
            sa.select(before).where(after.in_(new), before != ""),
        )
        new = {i for link in links for i in connection.execute(link).scalars()} - found
        found |= new
    return found


def resting_on(connection: sa.Connection, turn_ids: Iterable[str]) -> set[str]:
    """The memories, of any system, that rest on some turns."""
    return set(connection.execute(sa.select(sources.c.record).where(sources.c.turn.in_(list(turn_ids)))).scalars())


def turns_under(connection: sa.Connection, record_ids: Iterable[str]) -> set[str]:
    """The turns that some memories rest on."""
    return set(connection.execute(sa.select(sources.c.turn).where(sources.c.record.in_(list(record_ids)))).scalars())


def forget(connection: sa.Connection, turn_ids: set[str], record_ids: set[str]) -> Forgotten:
    """Take them out, and every memory that rests on one of the turns."""
    gone = record_ids | resting_on(connection, turn_ids)
    _offer_again(connection, gone, turn_ids)
    gone_records = [record_of(row, ()) for row in connection.execute(sa.select(records).where(records.c.id.in_(gone))).mappings()]
    gone_turns = [turn_of(row) for row in connection.execute(sa.select(turns).where(turns.c.id.in_(turn_ids))).mappings()]
    numbers = words.take_out(connection, [*gone_turns, *gone_records])
    _close_gaps(connection, gone_records, {t.id: t.scope.user for t in gone_turns})
    connection.execute(records.delete().where(records.c.id.in_(gone)))
    connection.execute(sources.delete().where(sources.c.record.in_(gone)))
    connection.execute(decisions.delete().where(sa.or_(decisions.c.before.in_(gone), decisions.c.after.in_(gone))))
    connection.execute(turns.delete().where(turns.c.id.in_(turn_ids)))
    connection.execute(absorbed.delete().where(absorbed.c.turn.in_(turn_ids)))
    return Forgotten(tuple(t.id for t in gone_turns), tuple(r.id for r in gone_records), tuple(numbers))


def _offer_again(connection: sa.Connection, gone: set[str], turn_ids: set[str]) -> None:
    """Turns that a memory rested on beside the forgotten ones: its system has not seen them any more."""
    asked = (
        sa.select(records.c.system, sources.c.turn)
        .join(sources, sources.c.record == records.c.id)
        .where(records.c.id.in_(gone), sources.c.turn.not_in(turn_ids))
    )
    if not turn_ids:  # only what was made of the turns is forgotten, not what was said: it shall not come back by itself
        return
    for system, turn in set(connection.execute(asked)):
        connection.execute(absorbed.delete().where(absorbed.c.system == system, absorbed.c.turn == turn))


def _close_gaps(connection: sa.Connection, gone: Sequence[Record], forgotten: dict[str, str]) -> None:
    """Versions that made way for one that is forgotten make way for the next that is left. Where none is left they count again, if the
    forgotten one did; so do those that forgotten turns alone had retired.
    """
    by_id = {record.id: record for record in gone}
    made_way = sa.select(records.c.id, records.c.superseded_by).where(records.c.superseded_by.in_(by_id))
    back = _retired_by(connection, forgotten)
    for older, newer in connection.execute(made_way).all():
        if older in by_id:
            continue
        last = by_id[newer]
        while last.superseded_by in by_id:
            last = by_id[last.superseded_by]
        connection.execute(records.update().where(records.c.id == older).values(superseded_by=last.superseded_by))
        if last.current:
            back.add(older)
    back -= set(by_id)
    if back:
        connection.execute(records.update().where(records.c.id.in_(back)).values(retired_at=None, superseded_by="", valid_to=None))
        revived = connection.execute(sa.select(records).where(records.c.id.in_(back))).mappings()
        words.put(connection, [record_of(row, ()) for row in revived])


def _retired_by(connection: sa.Connection, forgotten: dict[str, str]) -> set[str]:
    """Records that only forgotten turns had retired; those decisions go."""
    deleted = (decisions.c.action == "DELETE", decisions.c.user.in_(set(forgotten.values())), decisions.c.undone_at.is_(None))
    told = connection.execute(sa.select(decisions.c.id, decisions.c.before, decisions.c.turns).where(*deleted)).all()
    retired = {before: i for i, before, said in told if set(said) <= set(forgotten)}
    connection.execute(decisions.delete().where(decisions.c.id.in_(list(retired.values()))))
    return set(retired)


def holding(connection: sa.Connection, text: str, conditions: Mapping[str, Sequence[sa.ColumnElement[bool]]]) -> tuple[set[str], set[str]]:
    """Turns and memories (any version) of a scope whose text holds these words, case aside."""
    asked = text.casefold()
    found = []
    for table, name in ((turns, "turns"), (records, "records")):
        rows = connection.execute(sa.select(table.c.id, table.c.text).where(*conditions[name]))
        found.append({i for i, held in rows if asked in held.casefold()})
    return found[0], found[1]
