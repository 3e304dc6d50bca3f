"""LV-Eval's scores: F1 that counts only where the answer's keywords are said, so that common words alone earn nothing.

``metadata["keywords"]`` is the sample's keyword string, empty where the set gives none. Kept for comparability: common words are struck
only from what the gate finds, not from its denominator, and not from F1; only the first reference counts; without keywords the English gate
is open and the Chinese one asks for the whole answer.
"""

from __future__ import annotations

from collections import Counter

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics._words import chinese_words, english_words
from baywindow.bench.metrics.f1 import overlap
from baywindow.bench.metrics.rouge import rouge

_GATE_EN = 0.2
_GATE_ZH = 0.4
_EN = (
    "about and are as at be because being but by does for from had has have he her his in is it of on or she that their they this to was "
    "what were when which who with"
)
_ZH = (
    "的 和 是 等 在 年 可以 为 与 ‰ 了 或 一种 月 c 至 日 有 进行 于 不 中 × 根据 小 由 亩 也 要 指 法 会 元 主要 以及 "
    "通过 首先 对 然后 号 以 所 后 丁 包括 无 将 用 能 形 方面 因素 位于 而 从 到 一定 用于 但 使用 让 具有 并 亿元 万元 "
    "上 类 基于 才 来 地 片 其他 个 或者 变得 时 给 你 使 条 受 已经 带 度"
)
COMMON_EN = frozenset(_EN.split())
COMMON_ZH = frozenset(_ZH.split())


@metric
def keyword_f1(reply: str, turn: Turn) -> float:
    """English F1, or 0 if less than a fifth of the keywords' words is said."""
    said, gold = english_words(reply), english_words(_first(turn))
    keywords = english_words(_keywords(turn))
    if keywords and _found(said, keywords, COMMON_EN) < _GATE_EN:
        return 0.0
    return overlap(said, gold)[2]


@metric
def keyword_f1_zh(reply: str, turn: Turn) -> float:
    """Chinese F1, or 0 if less than two fifths of the keywords' words (of the answer's, without keywords) are said."""
    said, gold = chinese_words(reply), chinese_words(_first(turn))
    keywords = chinese_words(_keywords(turn)) or gold
    if _found(said, keywords, COMMON_ZH) < _GATE_ZH:
        return 0.0
    return overlap(said, gold)[2]


@metric
def rouge_l_zh_content(reply: str, turn: Turn) -> float:
    """ROUGE-L of Chinese words without the common ones, against the first reference (LV-Eval's dureader)."""
    said, gold = ([w for w in chinese_words(text) if w not in COMMON_ZH] for text in (reply, _first(turn)))
    return rouge_of_words(said, gold)


def rouge_of_words(said: list[str], gold: list[str]) -> float:
    """ROUGE-L, F-measure, of texts that are words already: each is written as a number, which rouge-score leaves whole."""
    number: dict[str, int] = {}
    one, other = (" ".join(str(number.setdefault(w, len(number))) for w in words) for words in (said, gold))
    return rouge("rougeL", "fmeasure", one, other)


def _found(said: list[str], keywords: list[str], common: frozenset[str]) -> float:
    both = Counter(said) & Counter(keywords)
    return sum(n for word, n in both.items() if word not in common) / len(keywords) if keywords else 0.0


def _first(turn: Turn) -> str:
    return turn.gold[0] if turn.gold else ""


def _keywords(turn: Turn) -> str:
    return str(turn.metadata.get("keywords") or "")
