"""Selective Context: drop what the model could have guessed, keep what tells it something.

Paper: Li 2023, Compressing Context to Enhance Inference Efficiency of Large Language Models, arXiv 2310.06201; reference code
liyucheng09/Selective_Context was read.

Idea: the self-information of a token, -ln p, is low where the text is redundant. Each sentence is scored alone; a unit (token, phrase
or sentence) has the mean of its tokens; the units with the least are deleted. The question is not looked at.

Departs: see the card.

Shapes and units: ``budget_tokens`` of the target model over all passages; pieces are exact spans of characters.
Cost: one forward over the text by the scoring model, in batches; no generated token.
Errors: CapabilityError if the scoring model gives no log-probabilities; ConfigError for an unknown unit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from baywindow.budget import Budgeted
from baywindow.context.base import Compressor
from baywindow.context.compress._budget import best_units, say_dropped, share
from baywindow.context.compress._scoring import per_unit, scored_many, scorer_of
from baywindow.context.compress._units import Unit, phrases, sentences, words
from baywindow.context.compress.extractive import Extractive
from baywindow.context.condensed import GAP, Span
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import best_first
from baywindow.errors import ConfigError
from baywindow.models.base import LanguageModel
from baywindow.registry import technique


@technique(
    summary="drop the phrases that the model could have guessed",
    paper="2310.06201",
    year=2023,
    needs=("logprobs",),
    claim="Dropping the least informative half of the phrases hurts answers much less than dropping the same amount at random.",
    departures=(
        "what is kept fills a budget in tokens of the target model; the paper's ratio counts units, whatever their length",
        "phrases end at function words and punctuation instead of being spaCy's noun chunks: no tagger, and every language has them",
        "the smallest unit is a word, not a token, so that names and numbers stay whole",
    ),
)
class SelectiveContext(Budgeted, Compressor):
    default_budget_tokens: ClassVar[int] = 1024

    unit: Literal["word", "phrase", "sentence"] = "phrase"
    scorer: str | None = None  # a model's name; None is the model that answers

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit not in ("word", "phrase", "sentence"):
            raise ConfigError.bad_value("unit", self.unit, "word, phrase or sentence")

    @property
    def needs(self) -> tuple[str, ...]:
        return self.card.needs if self.scorer is None else ()

    def compress(self, run: Run, passages: list[Passage]) -> list[Passage]:
        given, budget = share(run, self, passages)
        if given <= budget:
            return list(passages)
        scored = self._scored(run, scorer_of(run, self.scorer), passages)
        if scored is None:
            return Extractive(budget_tokens=budget, by="words").compress(run, passages)
        units, informative = scored
        ranked = [units[i] for i in best_first(informative, len(units))]
        kept = best_units(run, passages, ranked, budget, GAP if self.unit == "sentence" else " ")
        say_dropped(run, self.card.name, given, passages, kept)
        return kept

    def _scored(self, run: Run, scorer: LanguageModel, passages: list[Passage]) -> tuple[list[Unit], NDArray[np.float32]] | None:
        """All units, and the mean self-information of each, in nats."""
        places = [(i, span) for i, p in enumerate(passages) for span in sentences(p.text)]
        found = scored_many(run, scorer, [("", passages[i].text[start:end]) for i, (start, end) in places])
        if found is None:
            return None
        units: list[Unit] = []
        values: list[NDArray[np.float32]] = []
        for (i, (start, end)), score in zip(places, found, strict=True):
            spans = self._spans(passages[i].text[start:end])
            units += [Unit(i, start + a, start + b) for a, b in spans]
            values.append(-per_unit(score, spans))
        return units, np.concatenate(values)

    def _spans(self, sentence: str) -> list[Span]:
        if self.unit == "sentence":
            return [(0, len(sentence))]
        return phrases(sentence) if self.unit == "phrase" else words(sentence)
