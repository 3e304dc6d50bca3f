"""MRCR: a long chat holds n different replies to one and the same request; the i-th of them is to be given again, word for word."""

from __future__ import annotations

import difflib
import random
import string
from itertools import islice

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._whole import Whole
from baywindow.documents.base import Document
from baywindow.errors import ConfigError, SourceError

NAME = "michelangelo.mrcr"
INSTRUCTION = "What follows is a long chat between a user and an assistant. The user's last message comes after it."
QUESTION = (
    "User: Write {mark} and directly after it, word for word, your {nth} reply to my request for a {form} about {topic} "
    "in a {style} style. Write nothing else.\n\nAssistant:"
)
FORMS = ("poem", "riddle", "letter", "diary entry", "speech", "fable", "news report", "song")
TOPICS = ("otters", "lighthouses", "glaciers", "clocks", "bread", "volcanoes", "chess", "bicycles", "owls", "tea", "harbours", "comets")
STYLES = ("solemn", "playful", "terse", "florid", "scholarly", "plain", "wistful", "brisk")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_MARK_LENGTH = 12
_NEEDLE_SENTENCES = 3


def mrcr(order: Order) -> Sample:
    """``needles`` (1 to 8) replies to the request; ``order.depth`` places the one that is asked for."""
    needles = order.options.get("needles", 2)
    if needles not in range(1, len(ORDINALS) + 1):
        raise ConfigError.bad_value("needles", needles, f"1 to {len(ORDINALS)}")
    rng = rng_of(NAME, order)
    asked = (rng.choice(FORMS), rng.choice(TOPICS), rng.choice(STYLES))
    chosen = rng.randrange(needles)
    replies, rest = _texts(order, needles)
    depths = _depths(needles, chosen, order, rng)
    placed = [(depth, exchange(asked, reply)) for depth, reply in zip(depths, replies, strict=True)]
    mark = "".join(rng.choices(string.ascii_letters + string.digits, k=_MARK_LENGTH))
    question = QUESTION.format(mark=mark, nth=ORDINALS[chosen], form=asked[0], topic=asked[1], style=asked[2])
    others = Whole(_Others(asked, rest, rng_of(NAME, order, "filler")), order.counter, "\n\n")
    overhead = sum(order.counter("\n\n" + part) for part in (INSTRUCTION, question, *(text for _, text in placed)))

    def build(room: int) -> Sample:
        turns = insert_at(others.upto(room - overhead), placed)
        return Sample(
            id="",
            documents=(Document("\n\n".join(turns), "chat.txt"),),
            instruction=INSTRUCTION,
            question=question,
            gold=(f"{mark} {replies[chosen]}",),
            scorer="michelangelo_mrcr",
            max_new_tokens=512,
            metadata={"needles": needles, "asked": chosen + 1, "depth": round(depths[chosen], 4), "haystack": order.haystack.name},
        )

    return sized(NAME, order, build)


def exchange(asked: tuple[str, str, str], reply: str) -> str:
    form, topic, style = asked
    return f"User: Write a {form} about {topic} in a {style} style.\n\nAssistant: {reply}"


def _texts(order: Order, needles: int) -> tuple[list[str], list[str]]:
    """The replies that count, each of sentences no other has, and the sentences left for all other replies."""
    sentences = list(islice(order.haystack.from_seed(order.seed), len(order.haystack.sentences)))
    reserved = needles * _NEEDLE_SENTENCES
    if len(sentences) < 2 * reserved:
        raise SourceError(f"{NAME} takes a haystack of {2 * reserved} sentences for {needles} needles", hint="name a folder of text")
    replies = [" ".join(sentences[i * _NEEDLE_SENTENCES : (i + 1) * _NEEDLE_SENTENCES]) for i in range(needles)]
    return replies, sentences[reserved:]


class _Others:
    """Draws exchanges with any other request; some share two of its three words, as in the published texts."""

    def __init__(self, asked: tuple[str, str, str], sentences: list[str], rng: random.Random) -> None:
        self._asked, self._sentences, self._rng = asked, sentences, rng
        self._at = 0

    def __call__(self) -> str:
        rng, request = self._rng, self._asked
        while request == self._asked:
            request = (rng.choice(FORMS), rng.choice(TOPICS), rng.choice(STYLES))
        count = rng.randint(1, 2 * _NEEDLE_SENTENCES - 1)
        reply = " ".join(self._sentences[(self._at + i) % len(self._sentences)] for i in range(count))
        self._at += count
        return exchange(request, reply)


def _depths(needles: int, chosen: int, order: Order, rng: random.Random) -> list[float]:
    """Ascending places; a depth that is asked for has ``chosen`` of the others before it."""
    if order.depth is None:
        return sorted(rng.random() for _ in range(needles))
    before = sorted(rng.uniform(0, order.depth) for _ in range(chosen))
    return [*before, order.depth, *sorted(rng.uniform(order.depth, 1) for _ in range(needles - chosen - 1))]


@metric
def michelangelo_mrcr(reply: str, turn: Turn) -> float:
    """MRCR v2: likeness (``difflib``, 0 to 1) of the gold text and what follows the last random string; 0 without the string."""
    mark, gold = turn.gold[0][:_MARK_LENGTH], turn.gold[0][_MARK_LENGTH:].strip()
    at = reply.rfind(mark)
    return difflib.SequenceMatcher(a=gold, b=reply[at + _MARK_LENGTH :].strip()).ratio() if at >= 0 else 0.0
