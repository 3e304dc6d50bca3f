"""HoloBench: another database (SQLite) on rows read back from the sentences must give the same answers."""

from __future__ import annotations

import re
import sqlite3

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks.holobench import SUITE, merged
from baywindow.bench.tasks.holobench._world import TABLES
from baywindow.errors import ConfigError

TASKS = {task.name.split(".")[1]: task for task in SUITE.tasks}


def quarter(text):
    return (len(text) + 3) // 4


def made(task, tokens=4096, seed=0, **options):
    return TASKS[task].sample(
        Order(tokens=tokens, seed=seed, counter=TokenCounter(quarter, "quarters"), haystack=Haystack.installed(), options=options)
    )


def read(line):
    """The table and row that a sentence tells, found by the form of the sentence."""
    for name, table in TABLES.items():
        for sentence in table.sentences:
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\w+)", re.escape(sentence))
            if found := re.fullmatch(pattern, line):
                return name, [int(v) if v.isdigit() else v for v in (found[c] for c in table.columns)]
    raise AssertionError(line)


def sqlite(rows, sql):
    with sqlite3.connect(":memory:") as db:
        for name, table in TABLES.items():
            db.execute(f"create table {name} ({', '.join(table.columns)})")
            own = [row for other, row in rows if other == name]
            db.executemany(f"insert into {name} values ({', '.join('?' * len(table.columns))})", own)
        answer = db.execute(sql).fetchall()
    db.close()
    return answer


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_sqlite_gives_the_same_answers(task, seed):
    sample = made(task, seed=seed)
    rows = [read(line) for line in sample.documents[0].text.splitlines()]
    gold = sample.gold[0].splitlines()[1:]
    answer = sqlite(rows, sample.metadata["sql"])
    assert sorted(str(row[0]) for row in answer) == sorted(gold) or [float(r[0]) for r in answer] == [float(g) for g in gold]
    asked = {t for t in TABLES if re.search(rf"\b(from|join) {t}\b", sample.metadata["sql"])}
    assert sum(name in asked for name, _ in rows) == sample.metadata["rows"]


@pytest.mark.parametrize("density", [0.2, 0.8, 1.0])
def test_density_sets_how_much_is_relevant(density):
    sample = made("aggregation", density=density)
    lines = sample.documents[0].text.splitlines()
    table = re.search(r"from (\w+)", sample.metadata["sql"])[1]
    relevant = sum(quarter(line) for line in lines if read(line)[0] == table)
    assert relevant / sum(quarter(line) for line in lines) == pytest.approx(density, abs=0.03)


def test_an_amount_stays_when_the_text_grows():
    short, long = (made("max_min", tokens, amount_tokens=1500) for tokens in (3072, 12288))
    assert short.metadata["amount_tokens"] == long.metadata["amount_tokens"] == 1500
    assert long.metadata["rows"] == pytest.approx(short.metadata["rows"], rel=0.1)
    assert len(long.documents[0].text.splitlines()) > 3 * len(short.documents[0].text.splitlines())


@pytest.mark.parametrize(
    ("merge", "places"),
    [("begin", "mmmmaaaa"), ("end", "aaaammmm"), ("middle", "aammmmaa"), ("bimodal", "mmaaaamm"), ("uniform", "mamamama")],
)
def test_where_relevant_rows_go(merge, places):
    assert "".join(merged(list("mmmm"), list("aaaa"), merge)) == places


@pytest.mark.parametrize(
    ("reply", "gold", "score"),
    [
        ("Answer:\n4", ["4"], 1),
        ("I count them.\nAnswer:\nThere are 4 of them.", ["4"], 1),
        ("Answer:\n5", ["4"], 0),
        ("Answer:\n1,234.50", ["1234.5"], 1),
        ("Answer:\n- Lulgo\n- Brax", ["Brax", "Lulgo"], 1),
        ("Answer:\nBrax", ["Brax", "Lulgo"], 2 / 3),  # precision 1, recall 1/2
        ("Answer:\nBrax\nLulgo\nTom\nPlim", ["Brax", "Lulgo"], 2 / 3),  # precision 1/2, recall 1
        ("Answer:\nBraxton", ["Brax"], 0),
        ("Answer:\nBrax\nBrax", ["Brax"], 2 / 3),  # a row counts once
        ("Answer:", ["Brax"], 0),
    ],
)
def test_rows_are_scored_by_f1(reply, gold, score):
    turn = Turn(question="", gold=("Answer:\n" + "\n".join(gold),), scorer="")
    assert find.scorer("holobench_rows")(reply, turn) == pytest.approx(score)


@pytest.mark.parametrize("option", [{"density": 0}, {"amount_tokens": 4000}, {"amount_tokens": -1}, {"merge": "left"}])
def test_bad_options_are_refused(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        made("join", **option)


def test_too_few_rows_are_refused():
    with pytest.raises(ConfigError, match=r"relevant|question"):
        made("ranking", 2048, amount_tokens=60)
