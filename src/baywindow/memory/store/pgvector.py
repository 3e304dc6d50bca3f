"""Vectors in PostgreSQL by the pgvector extension, in the same database as what they are of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.types import UserDefinedType

from baywindow.memory.records import Scope
from baywindow.memory.store.store import Store
from baywindow.memory.store.tables import items
from baywindow.memory.store.words import Numbered, narrowed

TABLE = "vectors_of_items"


class _Vector(UserDefinedType[str]):
    """Written as pgvector reads it: ``[0.1,0.2]``. Of any length: the embedder is known only when it is first used."""

    cache_ok = True

    def get_col_spec(self, **options: object) -> str:
        return "vector"


vectors_of_items = sa.Table(
    TABLE,
    sa.MetaData(),
    sa.Column("item", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("shelf", sa.Integer, nullable=False, index=True),
    sa.Column("vector", _Vector, nullable=False),
)


class PostgresVectors:
    """`meaning.Vectors` in a database. The search is exact: one user's vectors are read, not everybody's."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        with self._database.writing() as connection:
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
            vectors_of_items.create(connection, checkfirst=True)

    def missing(self, shelf: int, *, fresh: bool = False) -> list[int]:  # always read anew
        held = sa.select(vectors_of_items.c.item).where(vectors_of_items.c.shelf == shelf)
        wanted = sa.select(items.c.n).where(items.c.shelf == shelf)
        with self._database.writing() as connection:
            connection.execute(vectors_of_items.delete().where(vectors_of_items.c.shelf == shelf, vectors_of_items.c.item.not_in(wanted)))
            return list(connection.execute(wanted.where(items.c.n.not_in(held)).order_by(items.c.n)).scalars())

    def put(self, shelf: int, numbers: Sequence[int], vectors: NDArray[np.float32]) -> None:
        rows = [{"item": n, "shelf": shelf, "vector": _written(v)} for n, v in zip(numbers, vectors, strict=True)]
        with self._database.writing() as connection:
            connection.execute(vectors_of_items.insert(), rows)

    def near(self, shelf: int, scope: Scope, kind: str | None, vector: NDArray[np.float32], k: int) -> Numbered:
        distance = vectors_of_items.c.vector.op("<=>", return_type=sa.Float())(sa.cast(_written(vector), _Vector))
        asked = (
            sa.select(vectors_of_items.c.item, (1 - distance).label("near"))
            .join(items, items.c.n == vectors_of_items.c.item)
            .where(vectors_of_items.c.shelf == shelf, *narrowed(shelf, scope, kind))
            .order_by(distance, vectors_of_items.c.item)
            .limit(k)
        )
        with self._database.reading() as connection:
            return [(int(n), float(near)) for n, near in connection.execute(asked)]

    def forget(self, numbers: Sequence[int]) -> None:
        with self._database.writing() as connection:
            connection.execute(vectors_of_items.delete().where(vectors_of_items.c.item.in_(numbers)))

    def clear(self, dim: int) -> None:
        with self._database.writing() as connection:
            connection.execute(vectors_of_items.delete())

    def compact(self) -> None:
        """The store's own VACUUM FULL is of this table too."""


def _written(vector: NDArray[np.float32]) -> str:
    return "[" + ",".join(f"{x:.9g}" for x in vector.tolist()) + "]"
