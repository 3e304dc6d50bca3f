"""What is searched by words: an inverted index in the same database, so it changes with the rows it is of, in one transaction.

BM25 is computed here from the postings of one shelf (one system and user), narrowed to the agent, session and kind asked for: exact,
the same on both databases, with the word statistics of the scope alone. SQLite's own full text has one statistic for everybody, and
PostgreSQL's has none (notes/memory.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from baywindow.documents.bm25 import K1, B
from baywindow.documents.words import words
from baywindow.memory.records import Record, Scope, Turn
from baywindow.memory.store import facts
from baywindow.memory.store.held import Look
from baywindow.memory.store.rows import record_of, turn_of
from baywindow.memory.store.tables import items, postings, records, shelves, turns

Numbered = list[tuple[int, float]]  # (number of an item, score), best first
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
    there = _scopes(connection, [one.id for one in found])
    shelved: dict[tuple[str, str], int] = {}
    moved = False
    for one in found:
        place = {"agent": one.scope.agent or "", "session": one.scope.session or ""}
        if one.id in there:
            if there[one.id] != tuple(place.values()):
                connection.execute(items.update().where(items.c.id == one.id).values(place))
                moved = True
            continue
        key = (one.system if isinstance(one, Record) else "", one.scope.user)
        if key not in shelved:
            shelved[key] = shelf_of(connection, *key, make=True) or 0
        _put_one(connection, one, shelved[key])
    if moved:
        facts.count(connection, facts.TAKEN_OUT)


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
    if gone:
        facts.count(connection, facts.TAKEN_OUT)
    return list(gone.values())


def numbers(connection: sa.Connection, ids: Sequence[str]) -> dict[str, int]:
    """Numbers of the searchable ones among some ids."""
    found: dict[str, int] = {}
    for at in range(0, len(ids), AT_ONCE):
        asked = sa.select(items.c.id, items.c.n).where(items.c.id.in_(ids[at : at + AT_ONCE]))
        found |= {str(i): int(n) for i, n in connection.execute(asked)}
    return found


def _scopes(connection: sa.Connection, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Agent and session of the searchable ones among some ids."""
    found: dict[str, tuple[str, str]] = {}
    for at in range(0, len(ids), AT_ONCE):
        asked = sa.select(items.c.id, items.c.agent, items.c.session).where(items.c.id.in_(ids[at : at + AT_ONCE]))
        found |= {str(i): (str(agent), str(session)) for i, agent, session in connection.execute(asked)}
    return found


def searched(one: Turn | Record) -> str:
    """The text by which it is found."""
    return one.line if isinstance(one, Turn) else one.text


def narrowed(shelf: int, scope: Scope, kind: str | None) -> list[sa.ColumnElement[bool]]:
    """The conditions on ``items`` for what a search may find."""
    named = (("agent", scope.agent), ("session", scope.session), ("kind", kind))
    return [items.c.shelf == shelf, *(items.c[name] == value for name, value in named if value is not None)]


def listed(look: Look, shelf: int, scope: Scope, kind: str | None) -> NDArray[np.int64]:
    """Numbers and lengths in words of what a search may find, shape (item, 2), by number."""
    key = ("items", shelf, scope.agent, scope.session, kind)
    return look.rows(key, lambda: sa.select(items.c.n, items.c.words).where(*narrowed(shelf, scope, kind)))


def by_words(look: Look, shelf: int, scope: Scope, query: str, k: int, kind: str | None) -> Numbered:
    """The best ``k`` by BM25 in Lucene's variant, best first; of equals the newer."""
    numbers, lengths = np.ascontiguousarray(listed(look, shelf, scope, kind).T)
    if not len(numbers):
        return []
    scores = np.zeros(len(numbers))
    mean = max(1, int(lengths.sum())) / len(numbers)
    for word, times in Counter(words(query)).items():
        item, count = _holding(look, shelf, word).T
        at = np.minimum(np.searchsorted(numbers, item), len(numbers) - 1)
        inside = numbers[at] == item
        at, count = at[inside], count[inside]
        idf = times * np.log(1 + (len(numbers) - len(at) + 0.5) / (len(at) + 0.5))
        scores[at] += idf * count / (count + K1 * (1 - B + B * lengths[at] / mean))
    return _best(scores, numbers, k)


def _holding(look: Look, shelf: int, word: str) -> NDArray[np.int64]:
    """Numbers of the items with a word, and how often they have it, shape (item, 2)."""

    def query() -> sa.Select[tuple[int, int]]:
        return sa.select(postings.c.item, postings.c.count).where(postings.c.shelf == shelf, postings.c.word == word)

    return look.rows(("word", shelf, word), query)


def _best(scores: NDArray[np.float64], numbers: NDArray[np.int64], k: int) -> Numbered:
    """Numbers and scores above zero, best first, of equals the newer."""
    bar = np.partition(scores, -k)[-k] if len(scores) > k else 0.0
    found = np.flatnonzero(scores >= bar if bar > 0 else scores > 0)
    order = found[np.lexsort((-numbers[found], -scores[found]))][:k]
    return [(int(numbers[i]), float(scores[i])) for i in order]


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
    facts.count(connection, facts.TAKEN_OUT)
    put(connection, [turn_of(row) for row in connection.execute(sa.select(turns)).mappings()])
    current = sa.select(records).where(records.c.retired_at.is_(None))
    put(connection, [record_of(row, ()) for row in connection.execute(current).mappings()])
