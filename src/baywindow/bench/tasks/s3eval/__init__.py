"""S3Eval: be the database. A random table, an SQL query, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baywindow.bench.base import Generated, Order, Sample, Suite, Turn, metric
from baywindow.bench.metrics.match import normalised
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._sql import Cell, Tables
from baywindow.bench.tasks._whole import Whole
from baywindow.bench.tasks.s3eval._queries import EASY, GENERAL, LONG, Draw, Query, Shape, ask
from baywindow.bench.tasks.s3eval._table import TABLE, Column, Rows, cells, columns_of, head
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

INSTRUCTION = f"Act as a database. Below is the table `{TABLE}`. Execute the SQL that follows it and reply with the result, nothing else."
OPTIONS = {"columns": 8, "shots": 5}
_LEAST_COLUMNS = 5


def _builder(name: str, shapes: Sequence[Shape], repeating: bool) -> Callable[[Order], Sample]:
    def build(order: Order) -> Sample:
        return _sample(name, order, shapes, repeating)

    return build


def _sample(name: str, order: Order, shapes: Sequence[Shape], repeating: bool) -> Sample:
    """Rows to fill the length, then queries on exactly these rows: examples first, the one that counts last."""
    count, shots = _option(order, "columns", _LEAST_COLUMNS), _option(order, "shots", 0)
    columns = columns_of(count, rng_of(name, order), repeating)
    lines = Whole(Rows(columns, rng_of(name, order, "rows")), order.counter)
    top = head(columns)
    overhead = sum(order.counter("\n" + part) for part in (INSTRUCTION, *top))
    overhead += _question_tokens(_ask(name, order, shapes, columns, lines.first(40)), order)

    def build(room: int) -> Sample:
        rows = lines.upto(room - overhead)
        if len(rows) < shots + 2:
            rows = lines.first(shots + 2)
        *examples, asked = _ask(name, order, shapes, columns, rows)
        facts = {} if repeating else {"depth": round(asked.row / (len(rows) - 1), 4)}  # only a lookup is about one row
        return Sample(
            id="",
            documents=(Document("\n".join([*top, *rows]), "table.md"),),
            instruction=INSTRUCTION,
            question=_question(examples, asked),
            gold=(asked.answer,),
            scorer="s3eval_match",
            max_new_tokens=64,
            metadata={"rows": len(rows), "columns": count, "shots": shots, "sql": asked.sql, **facts},
        )

    return sized(name, order, build)


def _option(order: Order, name: str, least: int) -> int:
    value = order.options.get(name, OPTIONS[name])
    if not isinstance(value, int) or value < least:
        raise ConfigError.bad_value(name, value, f"a whole number from {least} on")
    return value


def _ask(name: str, order: Order, shapes: Sequence[Shape], columns: list[Column], lines: list[str]) -> list[Query]:
    """The examples' queries and, last, the one asked; only that one is bound to the depth ordered."""
    rows = [cells(line) for line in lines]
    typed: list[list[Cell]] = [[int(v) if c.kind == "integer" else v for c, v in zip(columns, row, strict=True)] for row in rows]
    rng = rng_of(name, order, "queries")
    shots = _option(order, "shots", 0)
    with Tables({TABLE: ({c.name: c.kind for c in columns}, typed)}) as tables:
        examples = ask(shapes, tables, lambda: Draw(columns, rows, rng, None), shots + 1)
        asked = ask(shapes, tables, lambda: Draw(columns, rows, rng, order.depth), 1)[0]
    return [*[q for q in examples if q.sql != asked.sql][:shots], asked]


def _question(examples: Sequence[Query], asked: Query) -> str:
    solved = [f"SQL: {query.sql}\nResult: {query.answer}\n" for query in examples]
    return "\n".join([*solved, f"SQL: {asked.sql}\nResult:"])


def _question_tokens(queries: Sequence[Query], order: Order) -> int:
    return order.counter("\n" + _question(queries[:-1], queries[-1]))


@metric
def s3eval_match(reply: str, turn: Turn) -> float:
    """1 if reply and gold are the same number, or the same text in SQuAD's normal form."""
    gold, said = _number(turn.gold[0]), _number(reply)
    if gold is not None and said is not None:
        return float(gold == said)
    return float(normalised(reply) == normalised(turn.gold[0]))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _task(name: str, summary: str, shapes: Sequence[Shape], *, repeating: bool, has_depth: bool) -> Generated:
    return Generated(
        name=f"s3eval.{name}",
        summary=summary,
        scorer="s3eval_match",
        max_new_tokens=64,
        build=_builder(f"s3eval.{name}", shapes, repeating),
        min_tokens=3072,
        has_depth=has_depth,
        options=OPTIONS,
    )


SUITE = Suite(
    name="s3eval",
    summary="SQL over random tables: lookup, filter, order, group, nest, calculate",
    paper="2310.15147",
    year=2023,
    claim="Exact match falls as the rows grow at a fixed kind of query, and is lower when the answer's row stands in the middle.",
    departures=(
        "Gold by DuckDB instead of SQLite; a query whose answer could be any of several (ties of an ordering) is drawn again.",
        "The mode in which the model is shown SQL is built; instructions in words, steps and chains of thought are not.",
        "Names and text values are made-up words of one or two, so that the table can be made to a length; only Markdown tables.",
        "An answer is always one cell, the published default; averages are left out, whose decimals depend on the database.",
    ),
    tasks=(
        _task("easy", "the value of one column where another has a value", EASY, repeating=False, has_depth=True),
        _task("long", "the published long-context query: text where text equals", LONG, repeating=False, has_depth=True),
        _task("general", "sixteen shapes of query from lookup to nested and calculated", GENERAL, repeating=True, has_depth=False),
    ),
)
