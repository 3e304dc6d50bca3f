"""Facts about places and people that do not exist, set in natural text, with questions about them: what question answering is made of
where the published data sets are not there.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from baywindow.bench.base import Order
from baywindow.bench.counting import TokenCounter
from baywindow.bench.sized import Lengths, prefix, rng_of

SYLLABLES = ("bar", "cor", "dal", "fen", "gil", "hol", "kes", "lun", "mar", "nor", "pel", "ros", "sten", "tav", "ul", "vel", "wyn", "yar")
ENDINGS = ("by", "dale", "ford", "ham", "mere", "stead", "ton", "wick")
GIVEN = (
    "Ada",
    "Boris",
    "Clara",
    "Daniel",
    "Edith",
    "Felix",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Karin",
    "Leon",
    "Marta",
    "Nils",
    "Olga",
    "Paul",
)
PLACES = ("Academy", "Archive", "Bakery", "Foundry", "Gallery", "Hospital", "Library", "Mill", "Museum", "Observatory", "School", "Theatre")
# What is said of a place, and how it is asked. {who} and {town} are the answers.
SINGLE = (
    ("The {place} was founded by {who} in {year}.", "Who founded the {place}?", "who"),
    ("In {year} the {place} moved to the town of {town}.", "To which town did the {place} move?", "town"),
    ("The first director of the {place}, from {year}, was {who}.", "Who was the first director of the {place}?", "who"),
    ("Since {year} the records of the {place} have been kept in {town}.", "In which town are the records of the {place} kept?", "town"),
)
FOUNDED, BORN = "The {place} was founded by {who} in {year}.", "{who} was born in the town of {town} in {year}."
ONE_HOP_FACTS = tuple(fact for fact, _, _ in SINGLE)
TWO_HOPS = "In which town was the founder of the {place} born?"


@dataclass(frozen=True)
class Item:
    """A question, its answers, the paragraphs it needs, and paragraphs near to them that make the first distractors."""

    question: str
    answers: tuple[str, ...]
    needed: tuple[str, ...]
    near: tuple[str, ...] = ()


class Passage(NamedTuple):
    """A few sentences; that at ``fact`` tells something of ``title``, the others are the haystack's."""

    title: str
    sentences: tuple[str, ...]
    fact: int

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


class Names:
    """Invented names, none of them twice."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._used: set[str] = set()

    def new(self, form: str) -> str:
        """A name of the form, say ``"{given} {stem}"``."""
        while True:
            stem = "".join(self.rng.choices(SYLLABLES, k=self.rng.choice((2, 2, 3)))) + self.rng.choice(ENDINGS)
            name = form.format(stem=stem.capitalize(), given=self.rng.choice(GIVEN), place=self.rng.choice(PLACES))
            if name not in self._used:
                self._used.add(name)
                return name

    def words(self) -> dict[str, str]:
        """A place, a person, a town and a year."""
        names = {"place": self.new("{stem} {place}"), "who": self.new("{given} {stem}"), "town": self.new("{stem}")}
        return {**names, "year": str(self.rng.randint(1701, 1999))}


class World(Names):
    """Passages of one sample's haystack that tell of invented places and people."""

    def __init__(self, task: str, order: Order) -> None:
        super().__init__(rng_of(task, order, "facts"))
        self._sentences = order.haystack.from_seed(order.seed)

    def passage(self, fact: str, title: str) -> Passage:
        around = [next(self._sentences) for _ in range(self.rng.randint(2, 4))]
        at = self.rng.randrange(len(around) + 1)
        return Passage(title, (*around[:at], fact, *around[at:]), at)

    def others(self, templates: tuple[str, ...]) -> Iterator[Passage]:
        """Endless passages about ever other places."""
        while True:
            words = self.words()
            template = self.rng.choice(templates)
            yield self.passage(template.format(**words), words["who" if template == BORN else "place"])


def one_hop(world: World) -> tuple[str, str, Passage]:
    """A question, its answer and the passage with it."""
    words = world.words()
    fact, question, answer = world.rng.choice(SINGLE)
    return question.format(**words), words[answer], world.passage(fact.format(**words), words["place"])


def invented(task: str, order: Order, hops: int) -> tuple[Item, Iterator[Passage]]:
    """A question that needs one passage or two, and endless passages of the same kind about other places."""
    world = World(task, order)
    if hops == 1:
        question, answer, passage = one_hop(world)
        return Item(question, (answer,), (passage.text,)), world.others(ONE_HOP_FACTS)
    words = world.words()
    born = BORN.format(**{**words, "year": str(int(words["year"]) - world.rng.randint(25, 60))})
    needed = (world.passage(FOUNDED.format(**words), words["place"]).text, world.passage(born, words["who"]).text)
    return Item(TWO_HOPS.format(**words), (words["town"],), needed), world.others((FOUNDED, BORN))


def upto(passages: Iterable[Passage], room: int, counter: TokenCounter, heading: str) -> list[Passage]:
    """Passages from the start that take up about ``room`` tokens, each under a heading; of the last only what fits.

    Sentences of the haystack recur, so that the counter knows them; facts do not, and are told from their length.
    """
    facts = counter.once("invented facts", lambda: _fact_lengths(counter))
    above = counter(f".{heading}") - counter(".")
    taken: list[Passage] = []
    for passage in passages:
        costs = [facts(s) if i == passage.fact else counter(f" {s}") for i, s in enumerate(passage.sentences)]
        cost = above + sum(costs)
        if cost > room:
            sentences = prefix(passage.sentences, room - above, counter)
            return [*taken, Passage(passage.title, tuple(sentences), 0)] if sentences else taken
        taken.append(passage)
        room -= round(cost)
    return taken


def _fact_lengths(counter: TokenCounter) -> Lengths:
    names = Names(random.Random("typical facts"))
    return Lengths([template.format(**names.words()) for template in (*ONE_HOP_FACTS, FOUNDED, BORN) for _ in range(16)], counter, " ")
