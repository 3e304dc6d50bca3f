"""What the procedures have in common: three output lengths, two ways to score, and problems hidden in prose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import prefix, rng_of, sized
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

# Level → the length of the right reply in tokens, and how many a reply may have (those of the published example script).
LEVELS = {"0.5k": (512, 1024), "2k": (2048, 3072), "8k": (8192, 9216)}
OPTIONS = {"level": "0.5k", "partial": False}


def level_of(order: Order, least: str = "0.5k") -> tuple[str, int, int]:
    """The level, its reply's length and the most new tokens."""
    allowed = list(LEVELS)[list(LEVELS).index(least) :]
    level = order.options.get("level", least)
    if level not in allowed:
        raise ConfigError.bad_value("level", level, " or ".join(allowed))
    return level, *LEVELS[level]


def scorer_of(order: Order, name: str) -> str:
    """The scorer of all or nothing, or with ``partial`` the one that counts the right beginning."""
    return f"{name}_partial" if order.options.get("partial", False) else name


def tagged(reply: str, tag: str) -> str | None:
    """What stands between the first opening and the first closing tag after it; None without both."""
    found = re.search(rf"<{tag}>(.*?)</{tag}>", reply, re.DOTALL)
    return found[1].strip() if found else None


def right_beginning(said: list[str], gold: list[str]) -> float:
    """Share of the gold lines before the first that differs or is missing."""
    same = next((i for i, line in enumerate(gold) if i >= len(said) or said[i] != line), len(gold))
    return same / len(gold)


@dataclass(frozen=True)
class Problem:
    """A problem with its rules before the text, its question after it, and the right reply."""

    text: str
    rules: str
    question: str
    gold: str
    scorer: str
    facts: Mapping[str, Any]


def in_prose(name: str, order: Order, problem: Problem, most: int) -> Sample:
    """The problem in ``<problem>`` tags at its depth in the haystack, which fills the length. A reply may have ``most`` tokens."""
    depth = rng_of(name, order, "depth").random() if order.depth is None else order.depth
    block = f"\n\n<problem>\n{problem.text}\n</problem>\n\n"
    overhead = sum(order.counter("\n" + part) for part in (problem.rules, problem.question, block))

    def build(room: int) -> Sample:
        sentences = prefix(order.haystack.from_seed(order.seed), room - overhead, order.counter)
        return Sample(
            id="",
            documents=(Document(" ".join(insert_at(sentences, [(depth, block)])).strip(), "haystack.txt"),),
            instruction=problem.rules,
            question=problem.question,
            gold=(problem.gold,),
            scorer=scorer_of(order, problem.scorer),
            max_new_tokens=most,
            metadata={**problem.facts, "depth": round(depth, 4), "haystack": order.haystack.name},
        )

    return sized(name, order, build)
