"""Rows in memory, asked by SQL: DuckDB says what is true of the tables a sample shows."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from baywindow.errors import MissingExtraError

Cell = str | int | float | None


@functools.cache
def _database() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError.of("DuckDB, which computes the gold of SQL tasks,", "bench") from error
    return duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False})


class Tables:
    """A closed database of the tables given: name → (column → type, rows). Use it as a context manager.

    One thread and no access to files or network; the SQL is made by the generators, never taken from a model or a document. Starting a
    database costs more than asking it, so all share one, in which each sees only its own (temporary) tables.
    """

    def __init__(self, tables: Mapping[str, tuple[Mapping[str, str], Sequence[Sequence[Cell]]]]) -> None:
        import pyarrow as pa

        self._connection: Any = _database().cursor()
        for name, (columns, rows) in tables.items():
            arrays = [
                pa.array([row[i] for row in rows], pa.string() if kind == "date" else None) for i, kind in enumerate(columns.values())
            ]
            self._connection.register("given", pa.table(arrays, names=list(columns)))
            shown = ", ".join(f'cast("{column}" as {kind}) as "{column}"' for column, kind in columns.items())
            self._connection.execute(f'create temporary table "{name}" as select {shown} from given')
            self._connection.unregister("given")

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def rows(self, sql: str) -> list[tuple[str, ...]]:
        """The result, each cell as text; numbers without a needless fraction, NULL as an empty text."""
        return [tuple(shown(cell) for cell in row) for row in self._connection.execute(sql).fetchall()]


def shown(cell: object) -> str:
    """A cell as it is printed in tables and answers."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
