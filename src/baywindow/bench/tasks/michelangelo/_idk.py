"""IDK: a short story in a longer text, a question that it answers or just misses, and the choice to say so."""

from __future__ import annotations

import random
import re

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import prefix, rng_of, sized
from baywindow.bench.tasks._names import Fresh
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

NAME = "michelangelo.idk"
INSTRUCTION = "Read the text. Somewhere in it is a short story. Answer the question after it from the text alone."
CLOSING = "Reply with the letter of one choice in brackets. Choose the one that says it is not known if the text does not tell."
UNKNOWN = "I don't know"
# What may be told: the sentence, the question, the values.
FACTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "pet": ("{name} kept a {value} in the house.", "Which animal did {name} keep?", ("parrot", "goat", "tortoise", "ferret", "greyhound")),
    "trade": ("By trade {name} was a {value}.", "What was the trade of {name}?", ("baker", "surveyor", "weaver", "printer", "locksmith")),
    "coat": ("{name} always wore a {value} coat.", "Which colour was the coat of {name}?", ("green", "grey", "crimson", "yellow", "blue")),
    "music": ("In the evening {name} played the {value}.", "Which instrument did {name} play?", ("cello", "flute", "harp", "oboe", "lute")),
    "fruit": ("{name} ate a {value} every day.", "Which fruit did {name} eat every day?", ("quince", "plum", "fig", "pear", "melon")),
    "door": ("The door of {name} was made of {value}.", "What was the door of {name} made of?", ("oak", "iron", "pine", "glass")),
    "month": ("{name} was born in {value}.", "In which month was {name} born?", ("March", "June", "August", "October", "December")),
}
_TOLD = 4


def idk(order: Order) -> Sample:
    """``unanswerable``: the share of questions, over seeds, whose answer the story does not hold."""
    share = order.options.get("unanswerable", 0.7)
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ConfigError.bad_value("unanswerable", share, "a number from 0 to 1")
    rng = rng_of(NAME, order)
    name = Fresh(rng).name()
    told = rng.sample(sorted(FACTS), _TOLD)
    values = {fact: rng.choice(FACTS[fact][2]) for fact in told}
    story = " ".join(FACTS[fact][0].format(name=name, value=values[fact]) for fact in told)
    known = rng.random() >= share
    fact = rng.choice(told if known else sorted(set(FACTS) - set(told)))
    choices, letter = _choices(fact, values.get(fact), rng)
    question = f"{FACTS[fact][1].format(name=name)}\n{choices}\n{CLOSING}"
    depth = rng.random() if order.depth is None else order.depth
    overhead = sum(order.counter("\n" + part) for part in (INSTRUCTION, question, story))

    def build(room: int) -> Sample:
        sentences = prefix(order.haystack.from_seed(order.seed), room - overhead, order.counter)
        return Sample(
            id="",
            documents=(Document(" ".join(insert_at(sentences, [(depth, story)])), "haystack.txt"),),
            instruction=INSTRUCTION,
            question=question,
            gold=(f"({letter})",),
            scorer="michelangelo_choice",
            max_new_tokens=16,
            metadata={"answerable": known, "fact": fact, "depth": round(depth, 4), "haystack": order.haystack.name},
        )

    return sized(NAME, order, build)


def _choices(fact: str, value: str | None, rng: random.Random) -> tuple[str, str]:
    """Four lettered choices, one of them not knowing, and the letter of the right one."""
    others = [v for v in FACTS[fact][2] if v != value]
    shown = [*rng.sample(others, 3 if value is None else 2), *([] if value is None else [value]), UNKNOWN]
    rng.shuffle(shown)
    right = shown.index(UNKNOWN if value is None else value)
    return "\n".join(f"({letter}) {text}" for letter, text in zip("ABCD", shown, strict=True)), "ABCD"[right]


@metric
def michelangelo_choice(reply: str, turn: Turn) -> float:
    """1 if the first bracketed letter, or else a letter that begins the reply, is the gold one."""
    found = re.search(r"\(([A-D])\)", reply) or re.match(r"\s*([A-D])\b(?!['’])", reply)
    return float(found is not None and f"({found[1]})" == turn.gold[0])
