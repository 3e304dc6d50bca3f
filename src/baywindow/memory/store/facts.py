"""What a store says of itself: a name, a value; and counts that tell whoever keeps something in memory whether it still holds."""

from __future__ import annotations

import sqlalchemy as sa

from baywindow.memory.store.tables import facts

COMMITS = "changes"  # goes up with every commit
TAKEN_OUT = "taken out"  # goes up when something searched was taken out, or follows its scope: what only grew has not
# Asked at every search: building a statement takes longer than running it.
_VALUE = sa.select(facts.c.value).where(facts.c.name == sa.bindparam("wanted"))
_COUNTS = sa.select(facts.c.name, facts.c.value).where(facts.c.name.in_((COMMITS, TAKEN_OUT)))


def get(connection: sa.Connection, name: str) -> str | None:
    return connection.execute(_VALUE, {"wanted": name}).scalar()


def put(connection: sa.Connection, name: str, value: str) -> None:
    if connection.execute(facts.update().where(facts.c.name == name).values(value=value)).rowcount == 0:
        connection.execute(facts.insert().values(name=name, value=value))


def count(connection: sa.Connection, name: str) -> None:
    """One more."""
    now = connection.execute(sa.select(facts.c.value).where(facts.c.name == name).with_for_update()).scalar()
    put(connection, name, str(int(now or 0) + 1))


def counts(connection: sa.Connection) -> tuple[int, int]:
    """How often something was committed, and taken out."""
    found = dict(connection.execute(_COUNTS).all())
    return int(found.get(COMMITS, 0)), int(found.get(TAKEN_OUT, 0))
