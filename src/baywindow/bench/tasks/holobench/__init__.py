"""HoloBench: database questions on rows told as sentences. How much of the text counts is set apart from how long it is."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from baywindow.bench.base import Generated, Order, Sample, Suite, Turn, metric
from baywindow.bench.metrics.match import normalised
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._sql import Cell, Tables
from baywindow.bench.tasks._whole import Whole
from baywindow.bench.tasks.holobench._queries import KINDS_OF_QUERY, Query
from baywindow.bench.tasks.holobench._world import TABLES, Teller
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

INSTRUCTION = "Below are sentences, each of which tells one fact. Answer the question after them from these sentences alone."
CLOSING = "Reason as you need. End with a line `Answer:` and below it the results, one a line, nothing else."
OPTIONS = {"density": 0.5, "amount_tokens": 0, "merge": "uniform"}
MERGES = ("uniform", "begin", "end", "middle", "bimodal")
_MOST_ROWS = 20
_TRIES = 60


def _sample(name: str, order: Order, kind: Callable[[random.Random], Query]) -> Sample:
    """Relevant rows up to ``amount_tokens`` (or ``density`` of the room), rows of the other tables for the rest."""
    amount, merge = _amount_of(order), _merge_of(order)
    first = kind(rng_of(name, order, "query"))
    main = Teller(first.tables, rng_of(name, order, "main"))
    other = Teller([t for t in TABLES if t not in first.tables], rng_of(name, order, "other"))
    relevant, rest = Whole(main, order.counter), Whole(other, order.counter)
    overhead = sum(order.counter("\n" + part) for part in (INSTRUCTION, first.words, CLOSING))

    def build(room: int) -> Sample:
        wanted = amount(room - overhead)
        told = relevant.upto(wanted)
        query, gold = _asked(kind, first.tables, [main.rows[text] for text in told], rng_of(name, order, "query"))
        text = "\n".join(merged(told, rest.upto(room - overhead - wanted), merge))
        return Sample(
            id="",
            documents=(Document(text, "facts.txt"),),
            instruction=INSTRUCTION,
            question=f"{query.words}\n{CLOSING}",
            gold=("Answer:\n" + "\n".join(gold),),
            scorer="holobench_rows",
            max_new_tokens=1024,
            metadata={"rows": len(told), "amount_tokens": wanted, "merge": merge, "sql": query.sql, "answers": len(gold)},
        )

    return sized(name, order, build)


def _amount_of(order: Order) -> Callable[[int], int]:
    """How much of a room the relevant rows get, in tokens."""
    density, amount = order.options.get("density", OPTIONS["density"]), order.options.get("amount_tokens", OPTIONS["amount_tokens"])
    if not isinstance(density, int | float) or not 0 < density <= 1:
        raise ConfigError.bad_value("density", density, "a number above 0, at most 1")
    if not isinstance(amount, int) or not 0 <= amount <= 0.8 * order.tokens:
        raise ConfigError.bad_value("amount_tokens", amount, "0 (use density) or a number of tokens, at most 0.8 of the length")
    return lambda room: amount or round(density * room)


def _merge_of(order: Order) -> str:
    merge = order.options.get("merge", OPTIONS["merge"])
    if merge not in MERGES:
        raise ConfigError.bad_value("merge", merge, ", ".join(MERGES))
    return str(merge)


def merged(main: list[str], other: list[str], merge: str) -> list[str]:
    """Relevant rows among the others: evenly, all at the beginning, the end or the middle, or half at either end."""
    if merge == "begin":
        return main + other
    if merge == "end":
        return other + main
    if merge == "middle":
        return other[: len(other) // 2] + main + other[len(other) // 2 :]
    if merge == "bimodal":
        return main[: len(main) // 2] + other + main[len(main) // 2 :]
    places = [((i + 0.5) / max(1, len(part)), text) for part in (main, other) for i, text in enumerate(part)]
    return [text for _, text in sorted(places, key=lambda place: place[0])]


def _asked(
    kind: Callable[[random.Random], Query], tables: tuple[str, ...], told: Sequence[tuple[str, tuple[Cell, ...]]], rng: random.Random
) -> tuple[Query, list[str]]:
    """The first query drawn that asks these tables and has an answer: not empty, not ambiguous, not longer than `_MOST_ROWS`."""
    rows = {name: [row for table, row in told if table == name] for name in tables}
    if not all(rows.values()):
        raise ConfigError("too few relevant rows for a question", hint="raise density or amount_tokens, or the length")
    with Tables({name: (TABLES[name].columns, rows[name]) for name in tables}) as database:
        for _ in range(_TRIES):
            query = kind(rng)
            if query.tables != tables or (query.sure and database.rows(query.sure) not in ([("1",)], [("True",)])):
                continue
            gold = [" | ".join(row) for row in database.rows(query.sql)]
            if 1 <= len(gold) <= _MOST_ROWS and gold not in (["0"], [""]):
                return query, gold
    raise ConfigError("no question with an answer was found for these rows", hint="raise density or amount_tokens, or the length")


@metric
def holobench_rows(reply: str, turn: Turn) -> float:
    """F1 over rows: a line after the last ``Answer:`` matches a gold row if it holds each of its cells; numbers as numbers."""
    gold = turn.gold[0].splitlines()[1:]
    said = [line for line in reply.rsplit("Answer:", 1)[-1].splitlines() if line.strip()]
    free, hits = list(gold), 0
    for line in said:
        match = next((row for row in free if all(_holds(line, cell) for cell in row.split(" | "))), None)
        if match is not None:
            free.remove(match)
            hits += 1
    return 2 * hits / (len(gold) + len(said)) if said else 0.0


def _holds(line: str, cell: str) -> bool:
    if re.fullmatch(r"-?\d+(\.\d+)?", cell):
        numbers = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", line))
        return any(abs(float(n) - float(cell)) < 1e-6 for n in numbers)
    return f" {normalised(cell)} " in f" {normalised(line)} "


def _builder(name: str, kind: Callable[[random.Random], Query]) -> Callable[[Order], Sample]:
    return lambda order: _sample(name, order, kind)


SUITE = Suite(
    name="holobench",
    summary="aggregation, extremes, joins, rankings and mixtures over rows told as sentences",
    paper="2410.11996",
    year=2024,
    claim="At one length, aggregation falls as the amount of relevant rows grows; extremes stay easier than counts and averages.",
    departures=(
        "Tables and sentences are generated: four tables of made-up goods and films with three ways to say a row, instead of five "
        "databases told by a model.",
        "Scored by rule instead of by two calls of a judge: F1 over rows, no credit for a partly right row (its weight is not published).",
        "Half of the room is relevant unless set otherwise; in the published code a density below 1 has no effect without an amount.",
        "Questions whose answer is empty, tied or longer than twenty rows are drawn again.",
    ),
    tasks=tuple(
        Generated(
            name=f"holobench.{kind}",
            summary=summary,
            scorer="holobench_rows",
            max_new_tokens=1024,
            build=_builder(f"holobench.{kind}", draw),
            min_tokens=2048,
            options=OPTIONS,
        )
        for kind, (summary, draw) in KINDS_OF_QUERY.items()
    ),
)
