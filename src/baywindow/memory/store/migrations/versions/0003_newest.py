"""What came last on a shelf is found without going through all of it."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("items_by_number", "items", ["shelf", "n"])
