"""GemFilter: an early layer already knows which tokens matter; keep those and read only them.

Paper: Shi 2024, Discovering the Gems in Early Layers: Accelerating Long-Context LLMs with 1000x Input Token Reduction,
arXiv 2409.17422; reference code SalesforceAIResearch/GemFilter was read.

Idea: run the text and the question through the first layers only. At layer r, the last token's query is multiplied with every key;
the products are summed over heads and smoothed over neighbours; the tokens with the highest sums are kept, in order, and read afresh.

Departs: see the card.

Shapes and units: ``budget_tokens`` of the target model; ``layer`` counts blocks from 0, or is a share of the blocks when below 1.
Cost: the first layers over text and question, once for each window-full; layers above do not run. No generated token.
Errors: CapabilityError for a model that does not show its insides; ConfigError for an option out of range.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from baywindow.budget import Budgeted
from baywindow.context.base import Compressor
from baywindow.context.compress._budget import best_units, say_dropped, share
from baywindow.context.compress._scoring import parts_of
from baywindow.context.compress._units import Unit, words
from baywindow.context.compress.extractive import Extractive
from baywindow.context.condensed import Span
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.documents.bm25 import best_first
from baywindow.errors import ConfigError
from baywindow.models.base import Inspection
from baywindow.registry import technique

ASK = "\n\nQuestion: {question}\nAnswer:"
JOINT = "\n\n"


@technique(
    summary="keep the words that an early layer's attention picks out for the question",
    paper="2409.17422",
    year=2024,
    needs=("weights",),
    claim="A middle layer's last-token scores put a needle inside a small budget, and the rest of the stack need not read the long text.",
    departures=(
        "whole words are kept, each with its best token's score, so that names and numbers survive",
        "the question is appended after selection and is never a candidate; in the paper it survives only if it is selected",
        "smoothing leaves out what lies beyond the ends instead of counting it as zero, which pushes both ends down",
        "text longer than the window is scored a window-full at a time; scores of different parts are ranked together",
    ),
)
class Gemfilter(Budgeted, Compressor):
    default_budget_tokens: ClassVar[int] = 1024

    layer: float = 0.4  # the paper's r: 13 of 32, 19 of 40, 19 of 32
    kernel: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer < 0 or (self.layer >= 1 and self.layer != int(self.layer)):
            raise ConfigError.bad_value("layer", self.layer, "a share of the layers below 1, or a whole number")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError.bad_value("kernel", self.kernel, "odd and at least 1")

    def compress(self, run: Run, passages: list[Passage]) -> list[Passage]:
        given, budget = share(run, self, passages)
        if given <= budget:
            return list(passages)
        asked = ASK.format(question=run.question)
        units: list[Unit] = []
        scores: list[float] = []
        for group in _groups(run, passages, asked):
            seen = self._inspected(run, JOINT.join(passages[i].text[a:b] for i, (a, b) in group) + asked)
            if seen is None:
                return Extractive(budget_tokens=budget, by="words").compress(run, passages)
            pooled = smoothed(next(iter(seen.scores.values())).sum(axis=0), self.kernel)
            at = 0
            for i, (start, end) in group:
                spans = words(passages[i].text[start:end])
                units += [Unit(i, start + a, start + b) for a, b in spans]
                scores += best_within(pooled, seen.offsets, [(at + a, at + b) for a, b in spans])
                at += end - start + len(JOINT)
        ranked = [units[i] for i in best_first(np.array(scores, dtype=np.float32), len(units))]
        kept = best_units(run, passages, ranked, budget, " ")
        say_dropped(run, self.card.name, given, passages, kept)
        return kept

    def _inspected(self, run: Run, text: str) -> Inspection | None:
        tokens = run.model.count_tokens(text)
        if not run.meter.allows(tokens, 0):
            run.note(f"the budget does not allow to read {tokens} tokens; sentences were chosen by shared words instead")
            return None
        layer = int(self.layer) if self.layer >= 1 or self.layer == 0 else round(self.layer * run.model.layers)
        found = run.model.inspect(text, [layer], frozenset({"scores"}))
        run.meter.charge(tokens, 0)
        return found


def smoothed(scores: NDArray[np.float32], kernel: int) -> NDArray[np.float32]:
    """Mean over ``kernel`` neighbours of each (token,), fewer at the ends."""
    half = kernel // 2
    sums = np.concatenate([[0.0], np.cumsum(scores, dtype=np.float64)])
    low = np.maximum(np.arange(len(scores)) - half, 0)
    high = np.minimum(np.arange(len(scores)) + half + 1, len(scores))
    found: NDArray[np.float32] = ((sums[high] - sums[low]) / (high - low)).astype(np.float32)
    return found


def best_within(scores: NDArray[np.float32], offsets: tuple[tuple[int, int], ...], spans: list[Span]) -> list[float]:
    """The highest score of the tokens that lie in each span of characters; the lowest there is for a span without a token."""
    edges = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    first = np.searchsorted(edges[:, 1], [a for a, _ in spans], "right")
    last = np.searchsorted(edges[:, 0], [b for _, b in spans], "left")
    lowest = float(scores.min(initial=0.0))
    return [float(scores[a:b].max(initial=lowest)) for a, b in zip(first, last, strict=True)]


def _groups(run: Run, passages: list[Passage], asked: str) -> list[list[tuple[int, Span]]]:
    """Stretches of passages that fit one window with the question."""
    room = run.room_without_budget() - run.model.count_tokens(asked) - 8
    groups: list[list[tuple[int, Span]]] = []
    used = 0
    for i, passage in enumerate(passages):
        for span in parts_of(run.model, passage.text, asked):
            tokens = run.model.count_tokens(passage.text[slice(*span)]) + 2
            if not groups or used + tokens > room:
                groups.append([])
                used = 0
            groups[-1].append((i, span))
            used += tokens
    return groups
