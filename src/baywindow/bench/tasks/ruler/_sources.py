"""Questions with the paragraphs that answer them: from SQuAD's or HotpotQA's own files, or invented facts set in natural text."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baywindow.bench.base import Order
from baywindow.bench.sized import rng_of
from baywindow.errors import SourceError

FILES = {
    "squad": ("squad.json", "dev-v2.0.json", "dev-v1.1.json"),
    "hotpotqa": ("hotpotqa.json", "hotpot_dev_distractor_v1.json", "hotpot_dev_fullwiki_v1.json"),
}
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
TWO_HOPS = "In which town was the founder of the {place} born?"


@dataclass(frozen=True)
class Item:
    """A question, its answers, the paragraphs it needs, and paragraphs near to them that make the first distractors."""

    question: str
    answers: tuple[str, ...]
    needed: tuple[str, ...]
    near: tuple[str, ...] = ()


def from_file(dataset: str, place: Path) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Items and all paragraphs of ``squad`` or ``hotpotqa``; SourceError if there is no such file or it has another form."""
    names = FILES[dataset]
    path = next((place / name for name in names if (place / name).is_file()), None) if place.is_dir() else place
    if path is None or not path.is_file():
        raise SourceError(f"no {dataset} data at {place}", hint=f"a file, or a folder that holds {' or '.join(names)}")
    return _read(dataset, path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(dataset: str, path: Path, changed: int) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        items, paragraphs = _squad(data) if dataset == "squad" else _hotpot(data)
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not {dataset} data: {error}", hint="the official JSON file of the development set") from error
    if not items:
        raise SourceError(f"{path} holds no question with an answer", hint="the official JSON file of the development set")
    return items, paragraphs


def _squad(data: dict[str, Any]) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    items, every = [], {}
    for article in data["data"]:
        paragraphs = [p["context"] for p in article["paragraphs"]]
        every.update(dict.fromkeys(paragraphs))
        for paragraph in article["paragraphs"]:
            near = tuple(text for text in paragraphs if text != paragraph["context"])
            for asked in paragraph["qas"]:
                answers = tuple(dict.fromkeys(answer["text"] for answer in asked["answers"]))
                if answers and not asked.get("is_impossible", False):
                    items.append(Item(asked["question"], answers, (paragraph["context"],), near))
    return tuple(items), tuple(sorted(every))


def _hotpot(data: list[dict[str, Any]]) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    items, every = [], {}
    for row in data:
        titled = {title: f"{title}\n{''.join(sentences)}" for title, sentences in row["context"]}
        every.update(dict.fromkeys(titled.values()))
        supports = {title for title, _ in row.get("supporting_facts", [])} & set(titled) or set(titled)
        needed = tuple(text for title, text in titled.items() if title in supports)
        items.append(Item(row["question"], (row["answer"],), needed, tuple(t for title, t in titled.items() if title not in supports)))
    return tuple(items), tuple(sorted(every))


def invented(task: str, order: Order, hops: int) -> tuple[Item, Iterator[str]]:
    """One question about a place that does not exist, and endless passages about other such places, all set in natural text."""
    rng = rng_of(task, order, "facts")
    sentences = order.haystack.from_seed(order.seed)
    used: set[str] = set()

    def passage(fact: str) -> str:
        around = [next(sentences) for _ in range(rng.randint(2, 4))]
        around.insert(rng.randrange(len(around) + 1), fact)
        return " ".join(around)

    def others() -> Iterator[str]:
        while True:
            words = _fact_words(rng, used)
            yield passage((rng.choice(SINGLE)[0] if hops == 1 else rng.choice((FOUNDED, BORN))).format(**words))

    words = _fact_words(rng, used)
    if hops == 1:
        fact, question, answer = SINGLE[rng.randrange(len(SINGLE))]
        return Item(question.format(**words), (words[answer],), (passage(fact.format(**words)),)), others()
    needed = (passage(FOUNDED.format(**words)), passage(BORN.format(**{**words, "year": int(words["year"]) - rng.randint(25, 60)})))
    return Item(TWO_HOPS.format(**words), (words["town"],), needed), others()


def _fact_words(rng: random.Random, used: set[str]) -> dict[str, str]:
    """Names that no other fact of the sample has."""

    def new(make: str) -> str:
        while True:
            stem = "".join(rng.choices(SYLLABLES, k=rng.choice((2, 2, 3)))) + rng.choice(ENDINGS)
            name = make.format(stem=stem.capitalize(), given=rng.choice(GIVEN), place=rng.choice(PLACES))
            if name not in used:
                used.add(name)
                return name

    return {"place": new("{stem} {place}"), "who": new("{given} {stem}"), "town": new("{stem}"), "year": str(rng.randint(1701, 1999))}
