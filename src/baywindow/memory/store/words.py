"""What is searched by words: an inverted index in the same database, so it changes with the rows it is of, in one transaction.

BM25 is computed here from the postings of one shelf (one system and user), narrowed to the agent, session and kind asked for: exact,
the same on both databases, with the word statistics of the scope alone. SQLite's own full text has one statistic for everybody, and
PostgreSQL's has none (notes/memory.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from baywindow.documents.bm25 import K1, B
from baywindow.documents.words import words
from baywindow.memory.records import Record, Scope, Turn
from baywindow.memory.search import Near
from baywindow.memory.store.rows import record_of, turn_of
from baywindow.memory.store.tables import items, postings, records, shelves, turns

TURN_KIND = "turn"
AT_ONCE = 500  # ids in one statement


def shelf_of(connection: sa.Connection, system: str, user: str, *, make: bool = False) -> int | None:
    """The number of what one system (empty: the turns) keeps of one user."""
    asked = sa.select(shelves.c.n).where(shelves.c.system == system, shelves.c.user == user)
    found = connection.execute(asked).scalar()
    if found is None and make:
        found = connection.execute(shelves.insert().values(system=system, user=user).returning(shelves.c.n)).scalar_one()
    return None if found is None else int(found)


def put(connection: sa.Connection, found: Sequence[Turn | Record]) -> None:
    """Make turns and current records searchable; one that is searchable already only follows its scope."""
    there = numbers(connection, [one.id for one in found])
    shelved: dict[tuple[str, str], int] = {}
    for one in found:
        if one.id in there:
            moved = {"agent": one.scope.agent or "", "session": one.scope.session or ""}
            connection.execute(items.update().where(items.c.id == one.id).values(moved))
            continue
        key = (one.system if isinstance(one, Record) else "", one.scope.user)
        if key not in shelved:
            shelved[key] = shelf_of(connection, *key, make=True) or 0
        _put_one(connection, one, shelved[key])


def _put_one(connection: sa.Connection, one: Turn | Record, shelf: int) -> None:
    counted = Counter(words(searched(one)))
    row = {"id": one.id, "shelf": shelf, "agent": one.scope.agent or "", "session": one.scope.session or "", "words": counted.total()}
    row["kind"] = one.kind if isinstance(one, Record) else TURN_KIND
    n = connection.execute(items.insert().values(row).returning(items.c.n)).scalar_one()
    if counted:
        connection.execute(
            postings.insert(),
            [{"shelf": shelf, "word": w, "item": n, "count": count, "length": counted.total()} for w, count in counted.items()],
        )


def take_out(connection: sa.Connection, found: Sequence[Turn | Record]) -> list[int]:
    """Make turns or records unsearchable; the numbers they had."""
    gone = numbers(connection, [one.id for one in found])
    for one in found:
        if (n := gone.get(one.id)) is not None:
            shelf = connection.execute(sa.select(items.c.shelf).where(items.c.n == n)).scalar_one()
            held = list(set(words(searched(one))))
            connection.execute(postings.delete().where(postings.c.shelf == shelf, postings.c.word.in_(held), postings.c.item == n))
            connection.execute(items.delete().where(items.c.n == n))
    return list(gone.values())


def numbers(connection: sa.Connection, ids: Sequence[str]) -> dict[str, int]:
    """Numbers of the searchable ones among some ids."""
    found: dict[str, int] = {}
    for at in range(0, len(ids), AT_ONCE):
        asked = sa.select(items.c.id, items.c.n).where(items.c.id.in_(ids[at : at + AT_ONCE]))
        found |= {str(i): int(n) for i, n in connection.execute(asked)}
    return found


def searched(one: Turn | Record) -> str:
    """The text by which it is found."""
    return one.line if isinstance(one, Turn) else one.text


def narrowed(shelf: int, scope: Scope, kind: str | None) -> list[sa.ColumnElement[bool]]:
    """The conditions on ``items`` for what a search may find."""
    named = (("agent", scope.agent), ("session", scope.session), ("kind", kind))
    return [items.c.shelf == shelf, *(items.c[name] == value for name, value in named if value is not None)]


def by_words(connection: sa.Connection, shelf: int, scope: Scope, query: str, k: int, kind: str | None) -> Near:
    """The best ``k`` by BM25 in Lucene's variant, best first; of equals the newer."""
    allowed = narrowed(shelf, scope, kind)
    number, total = connection.execute(sa.select(sa.func.count(), sa.func.sum(items.c.words)).where(*allowed)).one()
    held = sa.select(postings.c.item, postings.c.count, postings.c.length).where(postings.c.shelf == shelf)
    if len(allowed) > 1:
        held = held.where(postings.c.item.in_(sa.select(items.c.n).where(*allowed)))
    found = [np.zeros((0, 2))]
    for word, times in Counter(words(query)).items():
        rows = connection.execute(held.where(postings.c.word == word)).all()
        # One pass over plain numbers: a frequent word has thousands of rows.
        item, count, length = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=3 * len(rows)).reshape(-1, 3).T
        idf = times * np.log(1 + (number - len(rows) + 0.5) / (len(rows) + 0.5))
        found.append(np.stack([item, idf * count / (count + K1 * (1 - B + B * length * number / max(1, total or 0)))], axis=1))
    best = _summed(np.concatenate(found))[:k]
    asked = sa.select(items.c.n, items.c.id).where(items.c.n.in_([n for n, _ in best]))
    named = dict(connection.execute(asked).all())
    return [(str(named[n]), score) for n, score in best]


def _summed(found: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Scores of items, shape (found, 2), summed by item: best first, of equals the newer."""
    item, at = np.unique(found[:, 0], return_inverse=True)
    sums = np.bincount(at, weights=found[:, 1], minlength=len(item))
    return [(int(item[i]), float(sums[i])) for i in np.lexsort((-item, -sums))]


def agree(connection: sa.Connection) -> bool:
    """Whether as many things are searched as there are to search."""
    count = sa.select(sa.func.count())
    wanted = connection.execute(count.select_from(turns)).scalar_one()
    wanted += connection.execute(count.select_from(records).where(records.c.retired_at.is_(None))).scalar_one()
    return bool(connection.execute(count.select_from(items)).scalar_one() == wanted)


def mend(connection: sa.Connection) -> None:
    """Make what is searched again from what is stored."""
    for table in (postings, items):
        connection.execute(table.delete())
    put(connection, [turn_of(row) for row in connection.execute(sa.select(turns)).mappings()])
    current = sa.select(records).where(records.c.retired_at.is_(None))
    put(connection, [record_of(row, ()) for row in connection.execute(current).mappings()])
