"""What is asked: SQL, and the same in words. Every kind has a form for goods and one for films."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from baywindow.bench.tasks.holobench._world import COUNTRIES, GENRES, KINDS, TOWNS


@dataclass(frozen=True)
class Query:
    """``sure`` is SQL that gives 1 if no tie makes the answer ambiguous; empty where there can be none."""

    tables: tuple[str, ...]
    sql: str
    words: str
    sure: str = ""


def _aggregation(rng: random.Random) -> Query:
    kind, genre = rng.choice(KINDS), rng.choice(GENRES)
    return rng.choice(
        (
            Query(("product",), f"select count(*) from product where kind = '{kind}'", f"How many products are a {kind}?"),
            Query(("film",), f"select count(*) from film where genre = '{genre}'", f"How many films are a {genre}?"),
            Query(
                ("product",),
                f"select round(avg(price), 2) from product where kind = '{kind}'",
                f"What do products that are a {kind} cost on average, in euros, to two decimals?",
            ),
            Query(
                ("film",),
                f"select round(avg(minutes), 2) from film where genre = '{genre}'",
                f"How many minutes does a {genre} last on average, to two decimals?",
            ),
            Query(
                ("product",),
                f"select sum(price) from product where kind = '{kind}'",
                f"What do all products that are a {kind} cost in all?",
            ),
        )
    )


def _max_min(rng: random.Random) -> Query:
    kind, genre = rng.choice(KINDS), rng.choice(GENRES)
    most, word = rng.choice((("max", "highest"), ("min", "lowest")))
    length = "longest" if most == "max" else "shortest"
    goods = f"from product where kind = '{kind}' and price = (select {most}(price) from product where kind = '{kind}')"
    films = f"from film where genre = '{genre}' and minutes = (select {most}(minutes) from film where genre = '{genre}')"
    return rng.choice(
        (
            Query(("product",), f"select name {goods}", f"Which {kind} has the {word} price?", f"select count(*) {goods}"),
            Query(("film",), f"select title {films}", f"Which {genre} is the {length}?", f"select count(*) {films}"),
        )
    )


def _join(rng: random.Random) -> Query:
    kind, town, genre, country = rng.choice(KINDS), rng.choice(TOWNS), rng.choice(GENRES), rng.choice(COUNTRIES)
    goods = f"from product join maker using (maker) where kind = '{kind}' and town = '{town}'"
    films = f"from film join director using (director) where genre = '{genre}' and country = '{country}'"
    return rng.choice(
        (
            Query(("product", "maker"), f"select name {goods}", f"Which products are a {kind} of a company with its seat in {town}?"),
            Query(("film", "director"), f"select title {films}", f"Which films are a {genre} by a director born in {country}?"),
            Query(
                ("product", "maker"), f"select count(*) {goods}", f"How many products are a {kind} of a company with its seat in {town}?"
            ),
            Query(("film", "director"), f"select count(*) {films}", f"How many films are a {genre} by a director born in {country}?"),
        )
    )


def _ranking(rng: random.Random) -> Query:
    kind, genre = rng.choice(KINDS), rng.choice(GENRES)
    return rng.choice(
        (
            _top("product", "name", "price", f"kind = '{kind}'", f"Which three products that are a {kind} cost most?"),
            _top("film", "title", "minutes", f"genre = '{genre}'", f"Which three films that are a {genre} last longest?"),
        )
    )


def _top(table: str, name: str, by: str, where: str, words: str) -> Query:
    """The three first; unambiguous if exactly three rows reach the third one's value."""
    third = f"(select {by} from {table} where {where} order by {by} desc limit 1 offset 2)"
    sure = f"select count(*) = 3 from {table} where {where} and {by} >= {third}"
    return Query((table,), f"select {name} from {table} where {where} order by {by} desc limit 3", words, sure)


def _mixture(rng: random.Random) -> Query:
    goods = "select town, avg(price) as v from product join maker using (maker) group by town"
    films = "select country, count(*) as v from film join director using (director) group by country"
    return rng.choice(
        (
            _first("town", goods, ("product", "maker"), "In which town are the companies whose products cost most on average?"),
            _first("country", films, ("film", "director"), "From which country come the directors of the most films?"),
        )
    )


def _first(name: str, groups: str, tables: tuple[str, ...], words: str) -> Query:
    best = f"with g as ({groups}) select {{}} from g where v = (select max(v) from g)"
    return Query(tables, best.format(name), words, best.format("count(*)"))


KINDS_OF_QUERY: dict[str, tuple[str, Callable[[random.Random], Query]]] = {
    "aggregation": ("counts, averages and sums over all rows that meet a condition", _aggregation),
    "max_min": ("the row with the highest or lowest value", _max_min),
    "join": ("rows, or their number, by what another table tells", _join),
    "ranking": ("the three first by a value", _ranking),
    "mixture": ("the group that is first by an average or a count over a join", _mixture),
}
