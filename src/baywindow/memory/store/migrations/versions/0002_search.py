"""What is searched: items and the words in them. They are derived: opening the store fills them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "shelves",
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("system", sa.String, nullable=False),
        sa.Column("user", sa.String, nullable=False),
    )
    op.create_index("shelves_by_name", "shelves", ["system", "user"], unique=True)
    op.create_table(
        "items",
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("shelf", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("agent", "session", "kind")),
        sa.Column("words", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("items_by_shelf", "items", ["shelf", "agent", "session", "kind", "words"])
    op.create_table(
        "postings",
        sa.Column("shelf", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("word", sa.String, primary_key=True),
        sa.Column("item", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
