"""Ask the retrieved passages first, and read the long text only if they do not hold the answer.

Paper: Li et al. 2024, Retrieval Augmented Generation or Long-Context LLMs? A Comprehensive Study and Hybrid Approach,
arXiv:2407.16833. No official code was found.
Idea: call 1 shows the retrieved passages and may decline with one fixed word; only then does call 2 read the whole text with the
ordinary prompt.
Departs from the paper: see the card.
Shapes and units: ``k`` passages in call 1; call 2 fills the window, or ``long_tokens`` of it; tokens of the target model.
Cost: one short call for questions that the passages answer, plus one of up to the window for the others.
Errors: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from baywindow.context.base import Reader
from baywindow.context.prompt import pack_one
from baywindow.context.reply import answer, declined, question_frame
from baywindow.context.run import Run
from baywindow.context.stages import best_passages, reading_order
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.registry import technique

# Characters a token stands for at the least in ordinary text: decides without counting whether a corpus may fit the window.
CHARACTERS_PER_TOKEN = 2
RANKED = 200


@technique(
    summary="answer from retrieved passages; read the long text only when they do not hold the answer",
    paper="arXiv:2407.16833",
    year=2024,
    claim="At nearly the accuracy of full context, routed answering uses clearly fewer tokens.",
    departures=(
        "the decline word is 'NOT FOUND' instead of 'unanswerable', shared by all readers; it is found by normalised containment",
        "call 2 may decline too: the product must be able to say that the documents do not hold the answer",
        "when the whole text does not fit, call 2 reads the best-ranked passages that fit, in reading order, and says so",
        "a base model gets call 1 only: it cannot be told to decline, so its decline says nothing about the passages",
        "k counts passages of the index (default 5, as in common re-implementations; the paper's own k was not found)",
    ),
)
class SelfRoute(Reader):
    k: int = 5
    long_tokens: int | None = None  # the most that call 2 reads; None is the whole window
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError.bad_value("k", self.k, "at least 1")
        if self.long_tokens is not None and self.long_tokens < 64:
            raise ConfigError.bad_value("long_tokens", self.long_tokens, "at least 64, or None")

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        frame = partial(question_frame, run)
        found = best_passages(run, passages, self.k)
        first: str | None = None
        if found:
            packed = pack_one(run, found, frame, self.max_new_tokens)
            first = answer(run, packed, "route", self.max_new_tokens)
            if first is not None and (not declined(first) or not run.model.instructed):
                return first
        source, whole = self._long_text(run, passages)
        packed = pack_one(run, source, frame, self.max_new_tokens, limit_tokens=self.long_tokens)
        if {p.key for p in packed.shown} <= {p.key for p in found[: len(packed.shown)]} and first is not None:
            return first  # there is nothing more to read than call 1 has read
        if packed.left_out_passages or not whole:
            run.note("the whole text does not fit; after the retrieved passages did not answer, the best-ranked part was read")
        shown = reading_order(packed.shown)
        run.progress(f"the passages did not answer; reading {run.model.count_tokens(packed.prompt)} tokens")
        packed = type(packed)(frame(shown), tuple(shown), packed.left_out, packed.left_out_passages)
        return answer(run, packed, "long", self.max_new_tokens) or first or ""

    def _long_text(self, run: Run, passages: list[Passage] | None) -> tuple[Iterable[Passage], bool]:
        """Everything, if it may fit; else the best-ranked passages, best first. The flag says which."""
        if passages is not None:
            return passages, True
        room = run.room(0, self.max_new_tokens)
        if self.long_tokens is not None:
            room = min(room, self.long_tokens)
        if run.corpus.characters <= room * CHARACTERS_PER_TOKEN:
            return run.corpus.passages(), True
        return best_passages(run, None, RANKED), False
