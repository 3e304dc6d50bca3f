"""The tables, the same on SQLite and PostgreSQL. A change here needs a revision in ``migrations``.

The truth: ``turns``, ``records`` with ``sources`` (which turns a record rests on), ``decisions``, ``absorbed`` (which turns a system has
seen), ``facts`` (what the store says of itself). Derived, and made again where they disagree: ``items`` (what can be searched: every
turn and every current record) and ``postings`` (which words an item holds). Their ``shelf`` is a number for one system and user, so a
search reads nothing of anybody else's. Vectors live elsewhere and are derived too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Dialect, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.types import TypeDecorator

FORM = "0003"  # the newest revision

metadata = MetaData()


class Utc(TypeDecorator[datetime]):
    """A time in UTC. SQLite keeps no zone, so none is kept anywhere."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def _scope() -> list[Column[str]]:
    return [Column(name, String, nullable=False) for name in ("user", "agent", "session")]


turns = Table(
    "turns",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    *_scope(),
    Column("role", String, nullable=False),
    Column("speaker", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("said_at", Utc, nullable=False),
    Column("ref", String, nullable=False),
    Column("data", JSON, nullable=False),
    Column("batch", String, nullable=False),  # turns that came in one call are absorbed together, also when it is done again
    Index("turns_by_scope", "user", "agent", "session", "n"),
    sqlite_autoincrement=True,
)
records = Table(
    "records",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),  # the order in which they were made
    Column("id", String, nullable=False, unique=True),
    Column("system", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("digest", String, nullable=False),  # of what makes two texts the same
    *_scope(),
    Column("said_at", Utc, nullable=False),
    Column("made_at", Utc, nullable=False),
    Column("valid_from", Utc),
    Column("valid_to", Utc),
    Column("retired_at", Utc),
    Column("superseded_by", String, nullable=False),
    Column("decision", String, nullable=False),
    Column("data", JSON, nullable=False),
    Index("records_by_scope", "system", "user", "agent", "session"),
    Index("records_by_text", "system", "user", "digest"),
    Index("records_by_newer", "superseded_by"),
    sqlite_autoincrement=True,
)
sources = Table(
    "sources",
    metadata,
    Column("record", String, primary_key=True),
    Column("turn", String, primary_key=True),
    Column("place", Integer, nullable=False),
    Index("sources_by_turn", "turn"),
)
decisions = Table(
    "decisions",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("action", String, nullable=False),
    Column("system", String, nullable=False),
    *_scope(),
    Column("made_at", Utc, nullable=False),
    Column("before", String, nullable=False),
    Column("after", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("turns", JSON, nullable=False),
    Column("undone_at", Utc),
    Index("decisions_by_before", "before"),
    Index("decisions_by_after", "after"),
    Index("decisions_by_scope", "system", "user"),
    sqlite_autoincrement=True,
)
absorbed = Table(
    "absorbed",
    metadata,
    Column("system", String, primary_key=True),
    Column("turn", String, primary_key=True),
    Index("absorbed_by_turn", "turn"),
)
facts = Table("facts", metadata, Column("name", String, primary_key=True), Column("value", String, nullable=False))

shelves = Table(
    "shelves",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),
    Column("system", String, nullable=False),
    Column("user", String, nullable=False),
    Index("shelves_by_name", "system", "user", unique=True),
)
items = Table(
    "items",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("shelf", Integer, nullable=False),
    Column("agent", String, nullable=False),
    Column("session", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("words", Integer, nullable=False),
    Index("items_by_shelf", "shelf", "agent", "session", "kind", "words"),
    Index("items_by_number", "shelf", "n"),  # what came last
    sqlite_autoincrement=True,  # a number is never given twice: vectors go by it
)
postings = Table(
    "postings",
    metadata,
    Column("shelf", Integer, primary_key=True, autoincrement=False),
    Column("word", String, primary_key=True),
    Column("item", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("length", Integer, nullable=False),  # of the item, in words: no second look for it
    sqlite_with_rowid=False,
)
TRUTH = (turns, records, sources, decisions, absorbed, facts)
SEARCHED = (shelves, items, postings)
