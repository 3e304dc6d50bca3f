"""Turns, records, decisions: what a store is for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def scope() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String, nullable=False) for name in ("user", "agent", "session")]


def upgrade() -> None:
    turns()
    records()
    decisions()
    op.create_table("absorbed", sa.Column("system", sa.String, primary_key=True), sa.Column("turn", sa.String, primary_key=True))
    op.create_index("absorbed_by_turn", "absorbed", ["turn"])
    op.create_table("facts", sa.Column("name", sa.String, primary_key=True), sa.Column("value", sa.String, nullable=False))


def turns() -> None:
    op.create_table(
        "turns",
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        *scope(),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("speaker", sa.String, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("said_at", sa.DateTime, nullable=False),
        sa.Column("ref", sa.String, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("batch", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("turns_by_scope", "turns", ["user", "agent", "session", "n"])


def records() -> None:
    op.create_table(
        "records",
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("system", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        *scope(),
        sa.Column("said_at", sa.DateTime, nullable=False),
        sa.Column("made_at", sa.DateTime, nullable=False),
        *(sa.Column(name, sa.DateTime) for name in ("valid_from", "valid_to", "retired_at")),
        sa.Column("superseded_by", sa.String, nullable=False),
        sa.Column("decision", sa.String, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("records_by_scope", "records", ["system", "user", "agent", "session"])
    op.create_index("records_by_text", "records", ["system", "user", "digest"])
    op.create_index("records_by_newer", "records", ["superseded_by"])
    op.create_table(
        "sources",
        sa.Column("record", sa.String, primary_key=True),
        sa.Column("turn", sa.String, primary_key=True),
        sa.Column("place", sa.Integer, nullable=False),
    )
    op.create_index("sources_by_turn", "sources", ["turn"])


def decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("system", sa.String, nullable=False),
        *scope(),
        sa.Column("made_at", sa.DateTime, nullable=False),
        sa.Column("before", sa.String, nullable=False),
        sa.Column("after", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("turns", sa.JSON, nullable=False),
        sa.Column("undone_at", sa.DateTime),
        sqlite_autoincrement=True,
    )
    op.create_index("decisions_by_before", "decisions", ["before"])
    op.create_index("decisions_by_after", "decisions", ["after"])
    op.create_index("decisions_by_scope", "decisions", ["system", "user"])
