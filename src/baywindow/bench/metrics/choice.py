"""Replies that choose: a class, a number, a letter."""

from __future__ import annotations

import re

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics._words import best, first_line
from baywindow.bench.metrics.order import numbers_in


@metric
def class_share(reply: str, turn: Turn) -> float:
    """1 over the number of class names that the reply holds, if the right one is among them (LongBench's classification score).

    ``metadata["classes"]`` names all classes. A name that is part of the right one does not count. Trap, mended: the published code
    drops such names from a list while it walks along it, so that of two neighbours one stays.
    """
    classes = dict.fromkeys(turn.metadata.get("classes", ()))
    return best(lambda said, gold: _class_share(said, gold, list(classes)), reply, turn.gold)


def _class_share(said: str, gold: str, classes: list[str]) -> float:
    found = [name for name in classes if name in said and (name == gold or name not in gold)]
    return 1 / len(found) if gold in found else 0.0


@metric
def class_share_line(reply: str, turn: Turn) -> float:
    """`class_share` of the reply's first line, for few-shot tasks."""
    return class_share(first_line(reply), turn)


@metric
def number_share(reply: str, turn: Turn) -> float:
    """Share of the reply's numbers that are the gold's first one: LongBench's score of counting and of naming a paragraph.

    Trap, kept: a number said on the way ("of 30 paragraphs, …") costs as much as a wrong answer.
    """
    said = numbers_in(reply)
    golds = [numbers[0] for gold in turn.gold if (numbers := numbers_in(gold))]
    return max((said.count(gold) / len(said) for gold in golds), default=0.0) if said else 0.0


@metric
def first_number(reply: str, turn: Turn) -> float:
    """1 if the first number of the reply, a decimal one too, equals the gold."""
    found = re.search(r"-?\d+(?:\.\d+)?", reply.replace(",", ""))
    return float(found is not None and any(_equal(found.group(), gold) for gold in turn.gold))


def _equal(said: str, gold: str) -> bool:
    try:
        return float(said) == float(gold)
    except ValueError:
        return False


@metric
def letter(reply: str, turn: Turn) -> float:
    """1 if the letter that the reply chooses is the gold (a letter from A to Z, or a string that begins with one in brackets)."""
    return float(chosen_letter(reply) in {chosen_letter(gold) for gold in turn.gold} - {""})


def chosen_letter(reply: str) -> str:
    """The letter of an option: after "answer is", else at the start, else the first that stands alone; "" if none.

    Trap, mended: taking the first character from A to D anywhere makes "Because" an answer. "A" at the start of a sentence and "I" are
    words, so a bare one counts only where punctuation, a line's end or nothing else follows.
    """
    said = reply.strip()
    patterns = (
        r"(?i:answer|option|choice)(?i:\s+is)?\s*[:=]?\s*[\"'*(\[]*([A-Z])(?![\w'’])",
        r"^[\"'*(\[]*([A-Z])(?:[\"'*)\].:,]|\s*$|\s*\n)",
        r"\(([A-Z])\)",
        r"(?:^|\s)[\"'*]*([A-Z])(?:[.:)\]*\"']|\s*$)",
    )
    return next((found.group(1) for pattern in patterns if (found := re.search(pattern, said))), "")
