"""S3Eval: another database (SQLite) must give the same answers on the table as it is printed."""

from __future__ import annotations

import random
import re
import sqlite3

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks._sql import Tables, shown
from baywindow.bench.tasks.s3eval import SUITE
from baywindow.bench.tasks.s3eval._queries import GENERAL, Draw, ask
from baywindow.bench.tasks.s3eval._table import Rows, cells, columns_of
from baywindow.errors import ConfigError

TASKS = {task.name.split(".")[1]: task for task in SUITE.tasks}


def made(task, tokens=3072, seed=0, depth=None, **options):
    counter = TokenCounter(lambda text: (len(text) + 2) // 3, "thirds")
    return TASKS[task].sample(Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), depth=depth, options=options))


def table(sample):
    """Columns and rows of the Markdown table, whole numbers as such."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in sample.documents[0].text.splitlines()]
    rows = [[int(cell) if re.fullmatch(r"\d+", cell) else cell for cell in row] for row in lines[2:]]
    return lines[0], rows


def sqlite(columns, rows, sql):
    with sqlite3.connect(":memory:") as db:
        db.execute(f"create table my_table ({', '.join(columns)})")
        db.executemany(f"insert into my_table values ({', '.join('?' * len(columns))})", rows)
        answer = db.execute(sql).fetchall()
    db.close()
    assert len(answer) == 1
    return str(answer[0][0])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_sqlite_gives_the_same_answers(task, seed):
    sample = made(task, seed=seed)
    columns, rows = table(sample)
    asked = re.findall(r"SQL: (.+)\nResult:(?: (.+))?", sample.question)
    assert len(asked) == 6
    assert len({sql for sql, _ in asked}) == 6
    assert asked[-1] == (sample.metadata["sql"], "")
    for sql, result in [*asked[:-1], (asked[-1][0], sample.gold[0])]:
        assert sqlite(columns, rows, sql) == result
        assert sqlite(columns, rows[::-1], sql) == result  # no tie is decided by the order of the rows


def test_every_general_shape_is_ready_for_use():
    """Each shape, asked alone of one table, gives queries with one answer; SQLite agrees."""
    rng = random.Random(3)
    columns = columns_of(8, rng, repeating=True)
    draw = Rows(columns, rng)
    rows = [cells(draw()) for _ in range(60)]
    typed = [[int(v) if c.kind == "integer" else v for c, v in zip(columns, row, strict=True)] for row in rows]
    with Tables({"my_table": ({c.name: c.kind for c in columns}, typed)}) as tables:
        for shape in GENERAL:
            for query in ask([shape], tables, lambda: Draw(columns, rows, rng, None), 2):
                assert sqlite([c.name for c in columns], typed, query.sql) == query.answer


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_the_answer_stands_in_the_row_at_the_depth(depth):
    sample = made("long", depth=depth)
    columns, rows = table(sample)
    wanted, known, value = re.fullmatch(r"select (\w+) from my_table where (\w+) = '(.+)'", sample.metadata["sql"]).groups()
    (row,) = [i for i, row in enumerate(rows) if row[columns.index(known)] == value]
    assert row == round(depth * (len(rows) - 1))
    assert rows[row][columns.index(wanted)] == sample.gold[0]


def test_columns_and_shots_can_be_set():
    sample = made("easy", columns=5, shots=0)
    assert len(table(sample)[0]) == 5
    assert sample.question.count("SQL:") == 1
    for option in ({"columns": 4}, {"shots": -1}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            made("easy", **option)


@pytest.mark.parametrize(
    ("reply", "gold", "score"),
    [
        ("12", "12", 1),
        ("12.0", "12", 1),
        ("12 ", "12", 1),
        ("13", "12", 0),
        ("The sarplis.", "sarplis", 1),
        ("sarplis gor", "sarplis", 0),
        ("12 euros", "12", 0),
    ],
)
def test_numbers_are_compared_as_numbers(reply, gold, score):
    assert find.scorer("s3eval_match")(reply, Turn(question="", gold=(gold,), scorer="")) == score


def test_the_database_is_closed_to_the_outside(tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with Tables({"t": ({"a": "integer", "d": "date"}, [[1, "2020-01-02"], [2, "2021-03-04"]])}) as tables:
        assert tables.rows("select max(a), min(d) from t") == [("2", "2020-01-02")]
        with pytest.raises(Exception, match=r"(?i)permission|disabled"):
            tables.rows(f"select * from '{tmp_path / 'secret.csv'}'")


def test_cells_are_shown_without_a_needless_fraction():
    assert [shown(cell) for cell in (None, 3.0, 2.5, 7, "x")] == ["", "3", "2.5", "7", "x"]
