"""Overlap of words between a reply and an answer, as SQuAD, LongBench, L-Eval and InfiniteBench count it.

Every score is the best over the accepted answers. Known trap, kept for comparability: a reply that holds the answer in a long sentence
scores low, so F1 also measures brevity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics._words import best, chinese_plain, chinese_words, english_words


def overlap(said: Sequence[str], gold: Sequence[str]) -> tuple[float, float, float]:
    """Precision, recall and F1 of two bags of words."""
    same = sum((Counter(said) & Counter(gold)).values())
    if not same:
        return 0.0, 0.0, 0.0
    precision, recall = same / len(said), same / len(gold)
    return precision, recall, 2 * precision * recall / (precision + recall)


@metric
def token_f1(reply: str, turn: Turn) -> float:
    """F1 of words in SQuAD's normal form."""
    return best(lambda said, gold: overlap(english_words(said), english_words(gold))[2], reply, turn.gold)


@metric
def token_precision(reply: str, turn: Turn) -> float:
    """Share of the reply's words that the answer has (L-CiteEval reports it beside recall)."""
    return best(lambda said, gold: overlap(english_words(said), english_words(gold))[0], reply, turn.gold)


@metric
def token_recall(reply: str, turn: Turn) -> float:
    """Share of the answer's words that the reply has."""
    return best(lambda said, gold: overlap(english_words(said), english_words(gold))[1], reply, turn.gold)


@metric
def token_f1_zh(reply: str, turn: Turn) -> float:
    """F1 of Chinese words (jieba), punctuation left out."""
    return best(lambda said, gold: overlap(chinese_words(said), chinese_words(gold))[2], reply, turn.gold)


@metric
def character_f1_zh(reply: str, turn: Turn) -> float:
    """F1 of single characters, punctuation left out: how InfiniteBench scores Chinese answers."""
    return best(lambda said, gold: overlap(chinese_plain(said), chinese_plain(gold))[2], reply, turn.gold)
