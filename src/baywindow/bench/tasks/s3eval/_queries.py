"""SQL by shapes: each draws columns and values from a table and says which condition makes its answer the only right one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from baywindow.bench.tasks._sql import Tables
from baywindow.bench.tasks.s3eval._table import TABLE, Column
from baywindow.errors import ConfigError

_TRIES = 400


@dataclass(frozen=True)
class Query:
    """SQL, the one cell it gives, and the row its values were drawn from, which is the row a lookup is about."""

    sql: str
    answer: str
    row: int


class Draw:
    """Columns and values for one query. ``depth`` fixes the row (0 the first, 1 the last), else it is any."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], rng: random.Random, depth: float | None) -> None:
        self._columns, self._rows, self.rng = columns, rows, rng
        self.row = round((rng.random() if depth is None else depth) * (len(rows) - 1))

    def columns(self, *kinds: str) -> list[Column]:
        """Different columns of the kinds asked for."""
        chosen: list[Column] = []
        for kind in kinds:
            chosen.append(self.rng.choice([c for c in self._columns if c.kind == kind and c not in chosen]))
        return chosen

    def value(self, column: Column, row: int | None = None) -> str:
        """The column's value in the drawn row, as an SQL literal."""
        text = self._rows[self.row if row is None else row][self._columns.index(column)]
        return text if column.kind == "integer" else f"'{text}'"

    def high(self, column: Column, ranks: int) -> int:
        """One of the ``ranks`` highest whole numbers of a column."""
        at = self._columns.index(column)
        return self.rng.choice(sorted((int(row[at]) for row in self._rows), reverse=True)[:ranks])


# A shape: the SQL, and SQL that gives 1 if the answer is unambiguous ("" where it always is, or where one cell proves it).
Shape = Callable[[Draw], tuple[str, str]]


def _lookup(wanted: str, known: str) -> Shape:
    def shape(draw: Draw) -> tuple[str, str]:
        a, b = draw.columns(wanted, known)
        return f"select {a.name} from {TABLE} where {b.name} = {draw.value(b)}", ""

    return shape


def _lookup_two(draw: Draw) -> tuple[str, str]:
    a, b, c = draw.columns("varchar", "varchar", "integer")
    return f"select {a.name} from {TABLE} where {b.name} = {draw.value(b)} and {c.name} >= {draw.value(c)}", ""


def _aggregate(draw: Draw) -> tuple[str, str]:
    (a,) = draw.columns("integer")
    return f"select {draw.rng.choice(('max', 'min', 'sum'))}({a.name}) from {TABLE}", ""


def _aggregate_where(draw: Draw) -> tuple[str, str]:
    a, b = draw.columns("integer", "varchar")
    function = draw.rng.choice(("max", "min", "sum", "count"))
    return f"select {function}({a.name}) from {TABLE} where {b.name} = {draw.value(b)}", ""


def _count_where(draw: Draw) -> tuple[str, str]:
    (a,) = draw.columns("integer")
    return f"select count(*) from {TABLE} where {a.name} {draw.rng.choice('<>')} {draw.value(a)}", ""


def _ordered(draw: Draw) -> tuple[str, str]:
    a, b = draw.columns("varchar", "integer")
    down = draw.rng.random() < 0.5
    best = f"(select {'max' if down else 'min'}({b.name}) from {TABLE})"
    return (
        f"select {a.name} from {TABLE} order by {b.name} {'desc' if down else 'asc'} limit 1",
        f"select count(distinct {a.name}) from {TABLE} where {b.name} = {best}",
    )


def _ordered_where(draw: Draw) -> tuple[str, str]:
    a, b, c = draw.columns("varchar", "integer", "integer")
    where = f"{c.name} > {draw.value(c)}"
    return (
        f"select {a.name} from {TABLE} where {where} order by {b.name} asc limit 1",
        f"select count(distinct {a.name}) from {TABLE} where {where} and {b.name} = (select min({b.name}) from {TABLE} where {where})",
    )


def _grouped(draw: Draw) -> tuple[str, str]:
    a, b = draw.columns("varchar", "integer")
    having = draw.rng.choice((f"count({b.name}) > {draw.rng.randint(1, 8)}", f"max({b.name}) >= {draw.high(b, 2)}"))
    return f"select {a.name} from {TABLE} group by {a.name} having {having}", ""


def _grouped_where(draw: Draw) -> tuple[str, str]:
    a, b = draw.columns("varchar", "integer")
    where = f"{b.name} >= {draw.high(b, 100)}"
    return f"select {a.name} from {TABLE} where {where} group by {a.name} having count(*) >= {draw.rng.randint(2, 4)}", ""


def _grouped_ordered(draw: Draw) -> tuple[str, str]:
    (a,) = draw.columns("varchar")
    counts = f"select {a.name}, count(*) as n from {TABLE} group by {a.name}"
    return (
        f"select {a.name} from {TABLE} group by {a.name} order by count(*) desc limit 1",
        f"with g as ({counts}) select count(*) from g where n = (select max(n) from g)",
    )


def _nested(draw: Draw) -> tuple[str, str]:
    a, b = draw.columns("varchar", "integer")
    inner = f"select {draw.rng.choice(('max', 'min'))}({b.name}) from {TABLE}"
    return f"select {a.name} from {TABLE} where {b.name} = ( {inner} )", ""


def _nested_where(draw: Draw) -> tuple[str, str]:
    a, b, c = draw.columns("varchar", "integer", "varchar")
    inner = f"select max({b.name}) from {TABLE} where {c.name} = {draw.value(c)}"
    return f"select {a.name} from {TABLE} where {c.name} = {draw.value(c)} and {b.name} = ( {inner} )", ""


def _calculated(draw: Draw) -> tuple[str, str]:
    a, b = draw.columns("integer", "integer")
    return f"select ( select max({a.name}) from {TABLE} ) {draw.rng.choice('+-')} ( select min({b.name}) from {TABLE} )", ""


EASY: tuple[Shape, ...] = tuple(_lookup(a, b) for a in ("varchar", "integer") for b in ("varchar", "integer"))
LONG: tuple[Shape, ...] = (_lookup("varchar", "varchar"),)
GENERAL: tuple[Shape, ...] = (
    *EASY,
    _lookup_two,
    _aggregate,
    _aggregate_where,
    _count_where,
    _ordered,
    _ordered_where,
    _grouped,
    _grouped_where,
    _grouped_ordered,
    _nested,
    _nested_where,
    _calculated,
)


def ask(shapes: Sequence[Shape], tables: Tables, draw: Callable[[], Draw], count: int) -> list[Query]:
    """``count`` different queries, each with one cell as its answer. ConfigError if the table allows too few."""
    found: dict[str, Query] = {}
    for _ in range(_TRIES):
        if len(found) == count:
            return list(found.values())
        drawn = draw()
        sql, sure = drawn.rng.choice(shapes)(drawn)
        answer = tables.rows(sql)
        if len(answer) != 1 or answer[0][0] in ("", "0") or (sure and tables.rows(sure) != [("1",)]):
            continue
        found.setdefault(sql, Query(sql, answer[0][0], drawn.row))
    if len(found) == count:
        return list(found.values())
    raise ConfigError(f"{count} queries with one answer each were not found in {_TRIES} tries", hint="use fewer shots or a longer context")
