"""Is what a reply says supported by what it cites: citation recall, precision and F1 as ALCE and L-CiteEval define them.

A sentence counts for recall if the passages it cites, joined, entail it. A citation of a supported sentence is useless if its passage alone
does not entail the sentence and the others still do; precision is the share of citations that are not useless. ``metadata["passages"]``
are the texts behind the numbers, from 1; ``metadata["items"]`` marks a list of answers (QAMPARI): each item between commas is a statement,
put behind the question.

Kept for comparability: at most three citations a sentence count; precision's denominator has every citation, those of unsupported sentences
too; a sentence without citations, or with one out of range, is unsupported. Mended: ``[0]`` is out of range (in the published code it is
the last passage); a passage cited twice in a sentence counts once; a citation after the full stop belongs to the sentence before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baywindow.bench.base import Turn, metric
from baywindow.bench.entailment import Entailment
from baywindow.bench.metrics._sentences import citations, sentences, without_citations
from baywindow.bench.metrics.f1 import overlap
from baywindow.bench.referees import refereed, the_entailment

AT_MOST = 3


@dataclass(frozen=True)
class Cited:
    """Shares from 0 to 1, and how many statements and citations they come from."""

    recall: float
    precision: float
    statements: int
    citations: int

    @property
    def f1(self) -> float:
        both = self.recall + self.precision
        return 2 * self.recall * self.precision / both if both else 0.0


def cited(statements: Sequence[str], passages: Sequence[str], entailment: Entailment) -> Cited:
    """Score statements that cite passages by number. A reply without statements or citations scores 0."""
    supported = useful = total = 0
    for statement in statements:
        numbers = citations(statement)
        if not numbers or any(not 1 <= n <= len(passages) for n in numbers):
            continue
        shown = [passages[n - 1] for n in numbers[:AT_MOST]]
        total += len(shown)
        claim = without_citations(statement)
        if entailment.entails("\n".join(shown), claim):
            supported += 1
            useful += sum(_useful(i, shown, claim, entailment) for i in range(len(shown)))
    return Cited(supported / len(statements) if statements else 0.0, useful / total if total else 0.0, len(statements), total)


def _useful(i: int, shown: Sequence[str], claim: str, entailment: Entailment) -> bool:
    if len(shown) == 1 or entailment.entails(shown[i], claim):
        return True
    others = [text for j, text in enumerate(shown) if j != i]
    return not entailment.entails("\n".join(others), claim)


def statements_of(reply: str, turn: Turn) -> list[str]:
    """What a reply states: its sentences, or of a list its items, each behind the question."""
    if not turn.metadata.get("items"):
        return sentences(reply)
    question = str(turn.metadata.get("question") or turn.question)
    items = [item.strip() for item in reply.strip().rstrip(".,").split(",")]
    return [f"{question} {item}" for item in items if item]


def _scored(reply: str, turn: Turn) -> Cited:
    return cited(statements_of(reply, turn), list(turn.metadata.get("passages", ())), the_entailment())


@metric
@refereed("entailment")
def citation_recall(reply: str, turn: Turn) -> float:
    """Share of statements that their citations entail."""
    return _scored(reply, turn).recall


@metric
@refereed("entailment")
def citation_precision(reply: str, turn: Turn) -> float:
    """Share of citations that are needed."""
    return _scored(reply, turn).precision


@metric
@refereed("entailment")
def citation_f1(reply: str, turn: Turn) -> float:
    """Harmonic mean of both, of this reply: the mean over replies is L-CiteEval's figure."""
    return _scored(reply, turn).f1


@metric
def citation_gold_f1(reply: str, turn: Turn) -> float:
    """F1 of the passages cited against those known to hold the answer, ``metadata["gold_passages"]`` (numbers from 1).

    Needs no entailment: L-CiteEval scores its needle and counting tasks so.
    """
    said = [n for sentence in sentences(reply) for n in citations(sentence)[:AT_MOST]]
    return overlap([str(n) for n in dict.fromkeys(said)], [str(n) for n in turn.metadata.get("gold_passages", ())])[2]
