"""ROUGE by the library rouge-score, best over the references.

Traps, and what is done: (1) rouge-score keeps only a-z and 0-9, so Chinese text scores 0 silently: `rouge_l_zh` hands it words cut by
jieba. (2) ``rougeLsum`` sees sentences only where there are line breaks; none are put in, as InfiniteBench does it. (3) Recall alone
rewards length: LooGLE reports it, so it is here under its own name, and no suite of ours ranks by it. (4) LongBench and LV-Eval use another
library (``rouge``), which takes words between blanks, keeps letter case and joins matches over sentences; figures differ a little.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics._words import best, chinese_words
from baywindow.errors import MissingExtraError

Part = Literal["precision", "recall", "fmeasure"]


class ChineseTokenizer:
    """What rouge-score asks for: a method that cuts a text into words."""

    def tokenize(self, text: str) -> list[str]:
        return chinese_words(text)


def rouge(kind: str, part: Part, reply: str, gold: str, *, stem: bool = False, chinese: bool = False) -> float:
    """One figure of one ROUGE (``rouge1``, ``rouge2``, ``rougeL``, ``rougeLsum``). MissingExtraError without rouge-score."""
    return float(getattr(_scorer(kind, stem, chinese).score(gold, reply)[kind], part))


@functools.cache
def _scorer(kind: str, stem: bool, chinese: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingExtraError.of("what computes ROUGE (rouge-score)", "bench") from None
    return RougeScorer([kind], use_stemmer=stem, tokenizer=ChineseTokenizer() if chinese else None)


@metric
def rouge_l(reply: str, turn: Turn) -> float:
    """ROUGE-L, F-measure: words in common in the same order."""
    return best(lambda said, gold: rouge("rougeL", "fmeasure", said, gold), reply, turn.gold)


@metric
def rouge_l_stem(reply: str, turn: Turn) -> float:
    """ROUGE-L, F-measure, words reduced to stems: HELMET's."""
    return best(lambda said, gold: rouge("rougeL", "fmeasure", said, gold, stem=True), reply, turn.gold)


@metric
def rouge_l_recall(reply: str, turn: Turn) -> float:
    """ROUGE-L, recall: LooGLE's. A reply that is long enough always wins."""
    return best(lambda said, gold: rouge("rougeL", "recall", said, gold), reply, turn.gold)


@metric
def rouge_1_recall(reply: str, turn: Turn) -> float:
    """ROUGE-1, recall: L-CiteEval's score of a found needle."""
    return best(lambda said, gold: rouge("rouge1", "recall", said, gold), reply, turn.gold)


@metric
def rouge_lsum(reply: str, turn: Turn) -> float:
    """ROUGE-Lsum, F-measure: InfiniteBench's score of a summary."""
    return best(lambda said, gold: rouge("rougeLsum", "fmeasure", said, gold), reply, turn.gold)


@metric
def rouge_mean(reply: str, turn: Turn) -> float:
    """Geometric mean of ROUGE-1, ROUGE-2 and ROUGE-L: the one number that L-Eval's code makes of a summary."""

    def mean(said: str, gold: str) -> float:
        one, two, longest = (rouge(kind, "fmeasure", said, gold) for kind in ("rouge1", "rouge2", "rougeL"))
        return float((one * two * longest) ** (1 / 3))

    return best(mean, reply, turn.gold)


@metric
def rouge_l_zh(reply: str, turn: Turn) -> float:
    """ROUGE-L, F-measure, of Chinese words (jieba)."""
    return best(lambda said, gold: rouge("rougeL", "fmeasure", said, gold, chinese=True), reply, turn.gold)
