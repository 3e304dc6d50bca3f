"""LongLLMLingua: the documents that make the question likely, and of them the words that the question makes likelier.

Paper: Jiang 2023, LongLLMLingua: Accelerating and Enhancing LLMs in Long Context Scenarios via Prompt Compression, arXiv 2310.06839;
reference code microsoft/LLMLingua was read.

Idea: *coarse*: a passage is worth the mean log-probability of the question (and a sentence that asserts the answer is there) after it;
the best fill the budget and ``spare_tokens`` more. *Fine*: a word is worth how much likelier the question makes it; each passage keeps
a share of its words, larger for better ones. *Order*: best first, or the best at both ends.

Departs: see the card.

Shapes and units: ``budget_tokens`` of the target model; ``dynamic`` is the difference in kept share between the mean and the best
passage; pieces are exact spans of characters.
Cost: one forward over all passages, each with the question behind it, and one over those that are left; no generated token.
Errors: CapabilityError if the scoring model gives no log-probabilities; ConfigError for an option out of range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from baywindow.budget import Budgeted
from baywindow.context.base import Compressor
from baywindow.context.compress._budget import best_units, say_dropped, share
from baywindow.context.compress._scoring import parts_of, per_unit, scored_many, scorer_of
from baywindow.context.compress._units import Unit, words
from baywindow.context.compress.extractive import Extractive
from baywindow.context.condensed import Span
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.models.base import LanguageModel
from baywindow.registry import technique

# The paper's restrictive statement: it keeps the small model from judging the question alone.
RESTRICT = " We can get the answer to this question in the given documents."


@technique(
    summary="documents that make the question likely, then the words that the question makes likely",
    paper="2310.06839",
    year=2023,
    needs=("logprobs",),
    claim="At four times compression, question-aware pruning keeps more answers than pruning without the question, or at random.",
    departures=(
        "words, not tokens, are kept or dropped, so that names and numbers stay whole",
        "a passage's words are scored after the question and the passage's own text, not after other passages' kept text: passages are "
        "no running text, and all of them can be scored in one batch",
        "no recovery of answer words: kept words are whole, and a citation quotes the source itself",
    ),
)
class LongLlmlingua(Budgeted, Compressor):
    default_budget_tokens: ClassVar[int] = 1024

    spare_tokens: int = 100  # the paper's context budget, +100: what the fine step has to drop at the least
    dynamic: float = 0.3  # the paper's δτ
    order: Literal["sort", "two_stage", "original"] = "sort"
    contrast: bool = True  # False: words are worth their self-information given the question
    scorer: str | None = None  # a model's name; None is the model that answers

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spare_tokens < 0:
            raise ConfigError.bad_value("spare_tokens", self.spare_tokens, "0 or more")
        if not 0 <= self.dynamic < 1:
            raise ConfigError.bad_value("dynamic", self.dynamic, "from 0 to below 1")
        if self.order not in ("sort", "two_stage", "original"):
            raise ConfigError.bad_value("order", self.order, "sort, two_stage or original")

    @property
    def needs(self) -> tuple[str, ...]:
        return self.card.needs if self.scorer is None else ()

    def compress(self, run: Run, passages: list[Passage]) -> list[Passage]:
        given, budget = share(run, self, passages)
        if given <= budget:
            return list(passages)
        scorer = scorer_of(run, self.scorer)
        alone = read_alone(run, scorer, passages)
        if alone is None:
            return Extractive(budget_tokens=budget, by="words").compress(run, passages)
        numbers = self._coarse(run, passages, [reading.worth for reading in alone], budget)
        best = [passages[i] for i in numbers]
        ranked = self._fine(run, scorer, best, [alone[i] for i in numbers], budget)
        if ranked is None:
            return Extractive(budget_tokens=budget, by="words").compress(run, passages)
        kept = self._ordered(best_units(run, best, ranked, budget, " "), passages, best)
        say_dropped(run, self.card.name, given, passages, kept)
        return kept

    def _coarse(self, run: Run, passages: list[Passage], worth: list[float], budget: int) -> list[int]:
        """Numbers of the passages that are left, best first."""
        left = budget + self.spare_tokens
        best: list[int] = []
        for i in sorted(range(len(passages)), key=lambda i: -worth[i]):
            best.append(i)
            left -= run.model.count_tokens(passages[i].text)
            if left < 0:
                break
        return best

    def _fine(self, run: Run, scorer: LanguageModel, best: list[Passage], alone: list[Alone], budget: int) -> list[Unit] | None:
        """The words in the order in which room is made for them: every passage is filled up in step, to its own share."""
        values = word_worth(run, scorer, best, alone, contrast=self.contrast)
        if values is None:
            return None
        shares = passage_shares(len(best), budget / max(1, sum(run.model.count_tokens(p.text) for p in best)), self.dynamic)
        queue = []
        for i, worth in enumerate(values):
            for rank, at in enumerate(np.argsort(-worth, kind="stable")):
                queue.append(((rank + 1) / len(worth) / shares[i], i, alone[i].words[int(at)]))
        return [Unit(i, *span) for _, i, span in sorted(queue, key=lambda entry: entry[:2])]

    def _ordered(self, kept: list[Passage], given: list[Passage], best: list[Passage]) -> list[Passage]:
        order = given if self.order == "original" else best
        kept = sorted(
            kept, key=lambda k: next(i for i, p in enumerate(order) if p.source == k.source and p.start <= k.start and k.end <= p.end)
        )
        return kept[::2] + kept[1::2][::-1] if self.order == "two_stage" else kept


@dataclass(frozen=True)
class Alone:
    """A passage read without the question before it: ``worth`` is the mean log-probability of the question after it (after the best
    part of one too long for the scorer), ``likely`` the mean log-probability of each of its ``words``."""

    worth: float
    words: list[Span]
    likely: NDArray[np.float32]


def read_alone(run: Run, scorer: LanguageModel, passages: list[Passage]) -> list[Alone] | None:
    """Both in one reading: the passage, and then the question."""
    asked = run.question + RESTRICT
    places = [(i, span) for i, p in enumerate(passages) for span in parts_of(scorer, p.text, asked)]
    found = scored_many(run, scorer, [("", f"{passages[i].text[start:end]}\n\n{asked}") for i, (start, end) in places])
    if found is None:
        return None
    worth = [-np.inf] * len(passages)
    spans = [words(p.text) for p in passages]
    likely = [np.zeros(len(s), dtype=np.float32) for s in spans]
    for (i, (start, end)), score in zip(places, found, strict=True):
        after = [lp for lp, (_, stop) in zip(score.logprobs, score.offsets, strict=True) if stop > end - start + 2]
        worth[i] = max(worth[i], float(np.mean(after)))
        inside = _inside(spans[i], start, end)
        likely[i][inside] = per_unit(score, [spans[i][n] for n in inside], start)
    return [Alone(*parts) for parts in zip(worth, spans, likely, strict=True)]


def word_worth(
    run: Run, scorer: LanguageModel, passages: list[Passage], alone: list[Alone], *, contrast: bool
) -> list[NDArray[np.float32]] | None:
    """For every passage the worth of its words: ln p(word | question) - ln p(word), or -ln p(word | question) without contrast."""
    asked = f"{run.question}\n\n"
    places = [(i, span) for i, p in enumerate(passages) for span in parts_of(scorer, p.text, asked)]
    found = scored_many(run, scorer, [(asked, passages[i].text[start:end]) for i, (start, end) in places])
    if found is None:
        return None
    values = [np.zeros(len(reading.words), dtype=np.float32) for reading in alone]
    for (i, (start, end)), score in zip(places, found, strict=True):
        inside = _inside(alone[i].words, start, end)
        given = per_unit(score, [alone[i].words[n] for n in inside], start)
        values[i][inside] = given - alone[i].likely[inside] if contrast else -given
    return values


def _inside(spans: list[Span], start: int, end: int) -> list[int]:
    return [n for n, (a, b) in enumerate(spans) if start <= a and b <= end]


def passage_shares(count: int, base: float, dynamic: float) -> list[float]:
    """The share of its words that each passage keeps, best first: from ``base + dynamic`` down to ``base - dynamic`` in equal steps."""
    step = [dynamic * (1 - 2 * i / (count - 1)) if count > 1 else 0.0 for i in range(count)]
    return [min(1.0, max(0.01, base + s)) for s in step]
