"""Aggregation: the ten most common words of a numbered list (``cwe``), and the three most frequent of a coded text (``fwe``)."""

from __future__ import annotations

import itertools
import math
import random
import string

from baywindow.bench.base import Order, Sample
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks.ruler._words import a_word, all_words
from baywindow.documents.base import Document

COMMON = 10
LONG = 4096  # from here on the official frequencies 30 and 3; below, the easier 6 and 1
LIST_INSTRUCTION = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often."
)
LIST_QUESTION = "Question: What are the 10 most common words in the above list?"
LIST_PREFIX = "Answer: The top 10 words that appear most often in the list are:"
CODED_INSTRUCTION = (
    "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words."
)
CODED_QUESTION = (
    "Question: Do not provide any explanation. Please ignore the dots '....'. "
    "What are the three most frequently appeared words in the above coded text?"
)
CODED_PREFIX = "Answer: According to the coded text above, the three most frequently appeared words are:"
ALPHA = 2.0
ZETA = math.pi**2 / 6  # the zeta function at 2
CODED_LETTERS = 6
NOISE_WORD = "..."


def common_words(order: Order) -> Sample:
    """A numbered list in which ten words come often, after a worked example of the same kind."""
    name = "ruler.cwe"
    often, seldom = (30, 3) if order.tokens >= LONG else (6, 1)
    rng = rng_of(name, order)
    shown, answer = numbered(
        rng.sample(all_words(), 40 if order.tokens >= LONG else 20), *((10, 3) if order.tokens >= LONG else (3, 1)), rng
    )
    example = f"{LIST_INSTRUCTION}\n{shown}\n{LIST_QUESTION} {LIST_PREFIX} " + " ".join(f"{i}. {w}" for i, w in enumerate(answer, 1))
    # a word is at least a token and its number two, so that this many always suffice
    words = rng.sample(all_words(), min(len(all_words()), COMMON + max(1, order.tokens // 3 - COMMON * often) // seldom))
    spare = rng_of(name, order, "spare")
    overhead = (
        sum(order.counter(f" {piece}") for piece in example.split(" ")) + order.counter(LIST_INSTRUCTION) + order.counter(LIST_QUESTION)
    )

    def build(room: int) -> Sample:
        count = max(COMMON + 1, _words_for(room - overhead, words, often, seldom, order))
        while len(words) < count:
            words.append(a_word(spare))
        text, common = numbered(words[:count], often, seldom, rng_of(name, order, "shuffle"))
        return Sample(
            id="",
            documents=(Document(text, "words.txt"),),
            instruction=f"{example}\n{LIST_INSTRUCTION}",
            question=LIST_QUESTION,
            answer_prefix=LIST_PREFIX,
            gold=tuple(common),
            scorer="includes_all",
            max_new_tokens=120,
            metadata={"words": count, "often": often, "seldom": seldom},
        )

    return sized(name, order, build)


def numbered(words: list[str], often: int, seldom: int, rng: random.Random) -> tuple[str, list[str]]:
    """The list as the prompt shows it, and the words that are common in it: the first ten."""
    entries = words[:COMMON] * often + words[COMMON:] * seldom
    rng.shuffle(entries)
    return " ".join(f"{i}. {word}" for i, word in enumerate(entries, 1)), words[:COMMON]


def _words_for(room: int, words: list[str], often: int, seldom: int, order: Order) -> int:
    """How many different words fill a room: every entry costs its word and its number, whose length grows with its digits."""
    numbers = [order.counter(f" {'7' * digits}.") for digits in range(1, 8)]
    costs = [order.counter(f" {word}") for word in words[:COMMON]]
    spent: float = often * sum(costs) + sum(numbers[len(str(i)) - 1] for i in range(1, often * COMMON + 1))
    entries, mean = often * COMMON, sum(costs) / COMMON
    for n in itertools.count(COMMON):
        if n < len(words):
            mean += (order.counter(f" {words[n]}") - mean) / (n + 1)
        cost = order.counter(f" {words[n]}") if n < len(words) else 2 * mean  # past the list come pairs of words
        spent += seldom * (cost + numbers[len(str(entries)) - 1])
        entries += seldom
        if spent > room:
            return n
    raise AssertionError("counting has no end")


def frequent_words(order: Order) -> Sample:
    """Coded words whose counts follow a zeta law of exponent 2; the most frequent is noise, the next three are asked for."""
    name = "ruler.fwe"
    rng = rng_of(name, order)
    vocabulary = [NOISE_WORD, *_coded(rng, max(order.tokens // 50, 8) - 1)]
    shares = [rank**-ALPHA / ZETA for rank in range(1, len(vocabulary) + 1)]
    costs = [order.counter(" " + word) for word in vocabulary]
    overhead = order.counter(CODED_INSTRUCTION) + order.counter(CODED_QUESTION)

    def build(room: int) -> Sample:
        most = _total_for(room - overhead, shares, costs)
        text = [word for word, share in zip(vocabulary, shares, strict=True) for _ in range(int(most * share))]
        rng_of(name, order, "shuffle").shuffle(text)
        return Sample(
            id="",
            documents=(Document(" ".join(text), "coded.txt"),),
            instruction=CODED_INSTRUCTION,
            question=CODED_QUESTION,
            answer_prefix=CODED_PREFIX,
            gold=tuple(vocabulary[1:4]),
            scorer="includes_all",
            max_new_tokens=50,
            metadata={"alpha": ALPHA, "vocabulary": len(vocabulary), "counts": [int(most * s) for s in shares[:5]]},
        )

    return sized(name, order, build)


def _total_for(room: int, shares: list[float], costs: list[int]) -> int:
    """The largest total whose rounded-down counts cost at most the room, by bisection."""
    low, high = 0, max(room, 1) * 4
    while high - low > 1:
        middle = (low + high) // 2
        cost = sum(int(middle * share) * each for share, each in zip(shares, costs, strict=True))
        low, high = (middle, high) if cost <= room else (low, middle)
    return low


def _coded(rng: random.Random, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choices(string.ascii_lowercase, k=CODED_LETTERS))] = None
    return list(found)
