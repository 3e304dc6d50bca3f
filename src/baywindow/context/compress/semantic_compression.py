"""Semantic compression: cut the text where its topic changes, and summarise each topic's stretch by itself.

Paper: Fei 2023, Extending Context Window of Large Language Models via Semantic Compression, arXiv 2312.09571. No public code was found.

Idea: sentences are the nodes of a graph, their similarities its edges; stretches whose sentences are alike form the topics. Each is
summarised on its own, all in parallel, and the summaries stand in the order of the text.

Departs: see the card.

Shapes and units: ``budget_tokens`` of the target model for all summaries together, shared out by the stretches' lengths.
Cost: one embedding a sentence, O(sentences · longest stretch) for the cuts, one call a stretch.
Errors: ConfigError for an option out of range; MissingExtraError without an embedder.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from baywindow.budget import Budgeted
from baywindow.context.base import Compressor
from baywindow.context.compress._budget import kept_of, say_dropped, share, tokens_of
from baywindow.context.compress._units import Unit, sentence_units
from baywindow.context.compress._written import at_most, joined
from baywindow.context.compress.extractive import Extractive
from baywindow.context.condensed import Condensed, cited, written
from baywindow.context.later import answer_reserve
from baywindow.context.prompt import DATA_RULE, defused, messages
from baywindow.context.run import Call, Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.models.base import Prompt
from baywindow.registry import technique

SYSTEM = f"Summarise the text in at most {{words}} words. Keep names, numbers and dates. Write only the summary. {DATA_RULE}"
EXAMPLES = (("Text:\nThe pier, which had stood since 1871, was closed after the storm of 1987 and never opened again.\n\nSummary:",
             "The pier of 1871 closed after the storm of 1987."),)  # fmt: skip
SHORTEST_SUMMARY = 12  # tokens; a stretch whose part of the budget would be less is not cut off
SHORT = 1e6  # what a stretch that is too short costs: more than any likeness earns


@technique(
    summary="cut at changes of topic and summarise each stretch on its own",
    paper="2312.09571",
    year=2023,
    needs=("text", "embedder"),
    claim="A model with a small window answers questions on a text several times longer better from the summaries than from its start.",
    departures=(
        "the model itself summarises, not a separate summariser: nothing more to download",
        "topics are contiguous stretches, chosen to have the highest similarity inside them; the paper does not say how its graph is cut",
        "the budget is shared out by length; the paper's ratio is what its summariser gives",
        "a stretch that the budget does not allow to summarise is given by its sentences nearest to the question instead",
    ),
)
class SemanticCompression(Budgeted, Compressor):
    default_budget_tokens: ClassVar[int] = 1024

    stretch_tokens: int = 400  # the longest stretch that is summarised in one call

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stretch_tokens < 16:
            raise ConfigError.bad_value("stretch_tokens", self.stretch_tokens, "at least 16")

    def compress(self, run: Run, passages: list[Passage]) -> list[Passage]:
        given, budget = share(run, self, passages)
        if given <= budget:
            return list(passages)
        stretches = self._stretches(run, passages, given, budget)
        sizes = [tokens_of(run, [s]) for s in stretches]
        shares = [max(1, budget * size // max(1, sum(sizes))) for size in sizes]
        made = self._summarised(run, stretches, shares)
        if not any(isinstance(passage, Condensed) and passage.written for passage in made):
            return Extractive(budget_tokens=budget, by="words").compress(run, passages)
        kept: list[Passage] = []
        left = budget
        for passage in made:
            part = None if passage is None else at_most(run, passage, left)
            if part is not None:
                kept.append(part)
                left -= tokens_of(run, [part])
        say_dropped(run, self.card.name, given, passages, kept)
        return kept

    def _stretches(self, run: Run, passages: list[Passage], given: int, budget: int) -> list[Passage]:
        """Topics as exact passages, in reading order; each long enough for a summary of some words, and fit for one call."""
        room = run.room_without_budget() - run.model.count_tokens(prompt_of("", 99)) - 64
        shortest = min(given * SHORTEST_SUMMARY // budget, room)
        longest = max(16, min(max(self.stretch_tokens, 2 * shortest), room))
        found: list[Passage] = []
        for _, document in groupby(reading_order([cited(p) for p in passages]), key=lambda p: p.source):
            for neighbours in _neighbours(run, list(document)):
                found += self._topics(run, neighbours, longest, shortest)
        return found

    def _topics(self, run: Run, neighbours: list[Passage], longest: int, shortest: int) -> list[Passage]:
        units = sentence_units(neighbours)
        alone = [kept_of(neighbours, [unit])[0] for unit in units]
        sizes = [tokens_of(run, [p]) + 1 for p in alone]
        vectors = run.corpus.embeddings(alone)
        return [self._covering(run, neighbours, units[a:b]) for a, b in topics(vectors, sizes, longest, shortest)]

    def _covering(self, run: Run, neighbours: list[Passage], units: list[Unit]) -> Passage:
        parts = kept_of(neighbours, units)
        return joined(run, parts)

    def _summarised(self, run: Run, stretches: list[Passage], shares: list[int]) -> list[Passage | None]:
        how = Call(name="summarise", max_new_tokens=max(8, *shares), keep=answer_reserve(run), examples=EXAMPLES)
        prompts = [prompt_of(s.text, max(4, tokens * 2 // 3)) for s, tokens in zip(stretches, shares, strict=True)]
        replies = run.call_many(prompts, how)
        made: list[Passage | None] = []
        for stretch, tokens, reply in zip(stretches, shares, replies, strict=True):
            if reply:
                made.append(at_most(run, written(stretch, reply), tokens))
            else:
                picked = Extractive(budget_tokens=tokens, by="words").compress(_quiet(run), [stretch])
                made.append(picked[0] if picked else None)
        if missing := sum(not reply for reply in replies):
            run.note(f"{missing} of {len(replies)} stretches were not summarised; their sentences nearest to the question stand for them")
        return made


def prompt_of(text: str, words: int) -> Prompt:
    return messages(SYSTEM.format(words=words), f"Text:\n{defused(text)}\n\nSummary:")


def topics(vectors: NDArray[np.float32], sizes: list[int], longest: int, shortest: int = 0) -> list[tuple[int, int]]:
    """Cuts into stretches ``(first, behind last)`` of at most ``longest`` tokens with the highest similarity inside them.

    A pair of sentences in one stretch earns its cosine less the mean cosine of the text, so that neither one stretch nor single
    sentences are best by themselves. Stretches below ``shortest`` are as few as can be: sentences that have little in common would
    all stand alone. Exact, by dynamic programming; a sentence above ``longest`` stands alone.
    """
    count = len(sizes)
    if count == 0:
        return []
    likeness = vectors @ vectors.T
    likeness = likeness - likeness.mean()
    np.fill_diagonal(likeness, 0.0)
    sums = np.zeros((count + 1, count + 1))
    sums[1:, 1:] = likeness.cumsum(0).cumsum(1)
    best = np.zeros(count + 1)
    cut = np.zeros(count + 1, dtype=int)
    for end in range(1, count + 1):
        best[end], tokens = -np.inf, 0
        for start in range(end - 1, -1, -1):
            tokens += sizes[start]
            if tokens > longest and start < end - 1:
                break
            inside = (sums[end, end] - sums[start, end] - sums[end, start] + sums[start, start]) / 2
            worth = best[start] + inside - SHORT * (tokens < shortest)
            if worth > best[end]:
                best[end], cut[end] = worth, start
    found: list[tuple[int, int]] = []
    end = count
    while end > 0:
        found.append((int(cut[end]), end))
        end = int(cut[end])
    return found[::-1]


def _neighbours(run: Run, passages: list[Passage]) -> list[list[Passage]]:
    """Passages of one document that adjoin but for white space (and share no text) belong together."""
    groups: list[list[Passage]] = []
    for passage in passages:
        last = groups[-1][-1] if groups else None
        if last is None or passage.start >= last.end:
            if last is not None and last.page == passage.page and not run.corpus.excerpt(last.source, last.end, passage.start).strip():
                groups[-1].append(passage)
            else:
                groups.append([passage])
        elif passage.end > last.end:  # overlapping: only what the earlier one does not hold
            fresh = replace(passage, text=passage.text[last.end - passage.start :], start=last.end)
            groups.append([replace(fresh, line=None if last.line is None else last.line + last.text.count("\n"))])
    return groups


def _quiet(run: Run) -> Run:
    """The same question without a trace: what a part of a technique notes is not a remark of its own."""
    return Run(run.question, run.corpus, run.model)
