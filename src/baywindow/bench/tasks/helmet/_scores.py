"""How HELMET reads a reply: what stands behind "Answer:" in one line, else the first line; the better of that and the whole counts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics.match import normalised
from baywindow.bench.metrics.rouge import rouge_l_stem


def parsed(reply: str, cue: str = "Answer:") -> str:
    """The answer's line without its cue, letter case apart."""
    found = re.search(rf"{re.escape(cue)}(.*)", reply, re.IGNORECASE)
    line = found.group(1) if found else reply.strip().split("\n")[0]
    return re.sub(rf"^\s*{re.escape(cue)}", "", line, flags=re.IGNORECASE).strip()


@metric
def helmet_substring(reply: str, turn: Turn) -> float:
    """1 if the reply holds an accepted answer, both in SQuAD's normal form. An answer that is nothing in that form never counts."""
    said = normalised(reply)
    return float(any((gold := normalised(answer)) and gold in said for answer in turn.gold))


@metric
def helmet_label(reply: str, turn: Turn) -> float:
    """1 if what stands behind "label:" is the label."""
    return float(normalised(parsed(reply, "label:")) in {normalised(gold) for gold in turn.gold})


@metric
def helmet_rouge(reply: str, turn: Turn) -> float:
    """ROUGE-L with stems, the better of the whole reply and its answer's line."""
    return max(rouge_l_stem(reply, turn), rouge_l_stem(parsed(reply), turn))


@metric
def helmet_choice(reply: str, turn: Turn) -> float:
    """1 if the answer's line is the letter, or the reply holds the option in full ("B. the text")."""
    letter, option = turn.gold[0], turn.gold[1] if len(turn.gold) > 1 else turn.gold[0]
    exact = letter.lower() in (parsed(reply).lower().strip(" .()"), normalised(reply))
    return float(exact or (len(option) > 1 and option.lower() in reply.lower()))


@metric
def helmet_ndcg10(reply: str, turn: Turn) -> float:
    """NDCG at 10 of the ids that the reply ranks, by ``metadata["relevance"]`` (id to grade). Ids left out are lost."""
    grades = {str(k): int(v) for k, v in turn.metadata["relevance"].items()}
    return ndcg(ranked(reply), grades, 10)


def ranked(reply: str) -> list[str]:
    """The longest chain ``3 > 1 > 2`` in the reply, each id once."""
    chains = re.findall(r"\d+(?:\s*>\s*\d+)*", re.sub(r"[\[\]:]|id", "", reply.lower()))
    return list(dict.fromkeys(re.findall(r"\d+", max(chains, key=len, default=""))))


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """trec_eval's: gains as they are, divided by log2(rank + 1), over the best order's sum. 0 where nothing is relevant."""

    def gain(order: Sequence[int]) -> float:
        return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(order[:k], 1))

    best = gain(sorted(grades.values(), reverse=True))
    return gain([grades.get(document, 0) for document in ranking]) / best if best else 0.0
