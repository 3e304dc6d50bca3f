"""Is the order right. Items are whole numbers: the reply's, as they come, against those of the gold strings, joined.

Traps, mended: an item said twice counts where it is said first; an item left out or made up costs, it is never skipped; a reply shorter
than the gold is compared with all of it (``zip`` would stop and call a right beginning a right order).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from itertools import combinations

from baywindow.bench.base import Turn, metric


def numbers_in(*texts: str) -> list[int]:
    """Whole numbers of texts, in order, without a sign."""
    return [int(n) for text in texts for n in re.findall(r"\d+", text)]


def longest_common(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for item in one:
        before = row
        row = [0]
        for j, candidate in enumerate(other):
            row.append(before[j] + 1 if item == candidate else max(row[j], before[j + 1]))
    return row[-1]


def concordant(said: Sequence[Hashable], gold: Sequence[Hashable]) -> float:
    """Share of gold's pairs that ``said`` has, both members, in gold's order. (Kendall's tau + 1) / 2 for a permutation."""
    if len(gold) < 2:
        return float(list(said[:1]) == list(gold))
    place: dict[Hashable, int] = {}
    for i, item in enumerate(said):
        place.setdefault(item, i)
    pairs = list(combinations(gold, 2))
    return sum(a in place and b in place and place[a] < place[b] for a, b in pairs) / len(pairs)


@metric
def order_lcs(reply: str, turn: Turn) -> float:
    """Longest common subsequence over the gold's length: ETHIC's score of organising."""
    gold = numbers_in(*turn.gold)
    return longest_common(numbers_in(reply), gold) / len(gold) if gold else 0.0


@metric
def order_kendall(reply: str, turn: Turn) -> float:
    """Share of pairs in the right order. A random order scores about one half, so compare it with that, not with 0."""
    gold = numbers_in(*turn.gold)
    return concordant(numbers_in(reply), gold) if gold else 0.0


@metric
def order_exact(reply: str, turn: Turn) -> float:
    """1 if the reply's numbers are the gold's, all of them, in order."""
    gold = numbers_in(*turn.gold)
    return float(bool(gold) and numbers_in(reply) == gold)
