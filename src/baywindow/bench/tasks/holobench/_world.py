"""Four tables of made-up things, each row of which can be said as a sentence."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from baywindow.bench.tasks._names import Fresh
from baywindow.bench.tasks._sql import Cell

KINDS = ("lamp", "kettle", "tent", "drill", "camera", "bicycle", "radio", "stove", "clock", "backpack")
TOWNS = ("Lisbon", "Oslo", "Turin", "Ghent", "Porto", "Graz", "Malmo", "Bergen")
GENRES = ("comedy", "western", "thriller", "musical", "documentary", "romance", "mystery", "satire")
COUNTRIES = ("Chile", "Norway", "Kenya", "Japan", "Poland", "Peru", "Ireland", "Vietnam")


@dataclass(frozen=True)
class Table:
    """Columns with their SQL types, and ways to say a row; two tables of one ``topic`` can be joined."""

    topic: str
    columns: Mapping[str, str]
    sentences: Sequence[str]


TABLES = {
    "product": Table(
        "goods",
        {"name": "varchar", "kind": "varchar", "maker": "varchar", "price": "integer", "grams": "integer"},
        (
            "{name} is a {kind} made by {maker}; it costs {price} euros and weighs {grams} grams.",
            "For {price} euros one can buy {name}, a {kind} of {grams} grams from {maker}.",
            "{maker} sells a {kind} under the name {name}. It weighs {grams} grams, and its price is {price} euros.",
        ),
    ),
    "maker": Table(
        "goods",
        {"maker": "varchar", "town": "varchar", "founded": "integer"},
        (
            "The company {maker} was founded in {founded} and has its seat in {town}.",
            "{town} is home to {maker}, a company that goes back to {founded}.",
            "In {founded} the company {maker} opened its doors in {town}.",
        ),
    ),
    "film": Table(
        "cinema",
        {"title": "varchar", "genre": "varchar", "director": "varchar", "minutes": "integer", "year": "integer"},
        (
            "The {genre} {title}, directed by {director}, came out in {year} and runs for {minutes} minutes.",
            "{director} directed {title}, a {genre} of {minutes} minutes, which was first shown in {year}.",
            "First shown in {year}, {title} is a {genre} by {director}. It lasts {minutes} minutes.",
        ),
    ),
    "director": Table(
        "cinema",
        {"director": "varchar", "country": "varchar", "born": "integer"},
        (
            "The director {director} was born in {country} in {born}.",
            "{director}, a director, comes from {country}; the year of birth is {born}.",
            "Born in {born}, the director {director} grew up in {country}.",
        ),
    ),
}
_WORKS = 4  # products of a maker, films of a director, on average


@dataclass
class Teller:
    """Draws rows of the tables named, in turns, and says them. ``rows`` remembers which row a sentence told."""

    names: Sequence[str]
    rng: random.Random
    rows: dict[str, tuple[str, tuple[Cell, ...]]] = field(default_factory=dict)
    _people: list[str] = field(default_factory=list)
    _told: int = 0

    def __post_init__(self) -> None:
        self._fresh = Fresh(self.rng)

    def __call__(self) -> str:
        people = [n for n in self.names if n in ("maker", "director")]
        works = [n for n in self.names if n not in people]
        one_of_people = bool(people) and (not works or self._told % (_WORKS + 1) == 0)
        self._told += 1
        name = self.rng.choice(people if one_of_people else works)
        row = self._row(name)
        table = TABLES[name]
        text = self.rng.choice(table.sentences).format(**dict(zip(table.columns, row, strict=True)))
        self.rows[text] = (name, row)
        return text

    def _row(self, name: str) -> tuple[Cell, ...]:
        rng = self.rng
        if name in ("maker", "director"):
            self._people.append(self._fresh.name())
            place = rng.choice(TOWNS if name == "maker" else COUNTRIES)
            return (self._people[-1], place, rng.randint(1850, 1999))
        who = rng.choice(self._people) if self._people else self._fresh.name()
        if name == "product":
            return (self._fresh.name(), rng.choice(KINDS), who, rng.randint(5, 9999), rng.randint(50, 30_000))
        return (self._fresh.name(), rng.choice(GENRES), who, rng.randint(60, 240), rng.randint(1930, 2024))
