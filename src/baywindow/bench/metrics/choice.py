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
    """1 if the letter that the reply chooses is the gold (a letter, or a string that begins with one in brackets)."""
    return float(chosen_letter(reply) in {chosen_letter(gold) for gold in turn.gold} - {""})


def chosen_letter(reply: str) -> str:
    """The letter (A to H) of an option: after "answer is", else at the start, else the only one marked as an option; "" if none.

    Traps, mended: taking the first character from A to D makes "Based on" an answer, and taking the first letter anywhere makes the first
    option that a reply discusses its choice. "A" before a word is an article.
    """
    said = reply.strip()
    if found := _CUED.search(said) or _FIRST.match(said):
        return found.group(1)
    marked = {letter for found in _MARKED.finditer(said) for letter in found.groups() if letter}
    return marked.pop() if len(marked) == 1 else ""


_OPEN = r"[\"'*(\[]*"
_CUED = re.compile(rf"(?i:(?:answer|option|choice)\s+is\s*:?|answer\s*:)\s*(?i:option\s+)?{_OPEN}([A-H])(?![\w'’])")
_FIRST = re.compile(r"[\s\"'*(\[:.,-]*([A-H])(?=[\"'*)\].:,]|\s*$|\s*\n)")
_MARKED = re.compile(rf"\(([A-H])\)|(?:^|\s){_OPEN}([A-H])(?=[.:)\]*\"']|\s*$)|(?i:option|choice)\s+{_OPEN}([A-H])\b")
