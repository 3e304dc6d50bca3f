"""Does the reply hold the gold answer, or equal it."""

from __future__ import annotations

import re
import string

from baywindow.bench.base import Turn, metric

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, no English articles, single spaces."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


@metric
def includes_all(reply: str, turn: Turn) -> float:
    """Share of the gold strings that the reply contains, letter case apart (RULER's ``string_match_all``)."""
    return sum(gold.lower() in reply.lower() for gold in turn.gold) / len(turn.gold)


@metric
def includes_any(reply: str, turn: Turn) -> float:
    """1 if the reply contains at least one gold string, letter case apart (RULER's ``string_match_part``)."""
    return float(any(gold.lower() in reply.lower() for gold in turn.gold))


@metric
def exact(reply: str, turn: Turn) -> float:
    """1 if the reply equals a gold string in SQuAD's normal form."""
    return float(normalised(reply) in {normalised(gold) for gold in turn.gold})
