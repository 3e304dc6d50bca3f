"""Keep the segments that make the model sure of its next word, and answer from those.

Paper: Wang et al. 2024, XL3M: A Training-free Framework for LLM Length Extension Based on Segment-wise Inference, arXiv:2405.17755. No
code was found; from the text.
Idea: every segment is read alone with the question behind it; the entropy of the next-token distribution at the end says how open the
answer still is. The segments with the lowest entropy are put together in their order and answered from.
Departs from the paper: see the card.
Shapes and units: ``segment_tokens`` of text to a segment, ``k`` segments kept; entropies in nats; tokens of the target model.
Cost: one forward over each segment and one call.
Errors: CapabilityError with a model that gives no log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.budget import Usage
from baywindow.context.base import SMALLEST_PASSAGE_TOKENS, Reader
from baywindow.context.capped import check_options
from baywindow.context.insides import scored
from baywindow.context.prompt import Packed, pack_all, pack_one
from baywindow.context.reply import NOT_FOUND, answer, question_frame
from baywindow.context.run import Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Passage
from baywindow.errors import CapabilityError
from baywindow.registry import technique

# Replies open alike whatever they go on to say: the entropy is read behind this opening, at its last word's place.
OPENING = "The answer is"
PLACE = " a"


@technique(
    summary="reads every segment with the question, keeps those that leave the model least unsure",
    paper="arXiv:2405.17755",
    year=2024,
    needs=("logprobs",),
    claim="The gold segment is among the segments of lowest entropy far more often than by chance.",
    departures=(
        "segment length, overlap and the number kept were not found: 512 tokens, none, 4",
        "the entropy is read behind the words 'The answer is': a chat model's first word says little",
        "the question is the user's, not the last tokens of the input",
    ),
)
class Xl3m(Reader):
    segment_tokens: int = 512
    k: int = 4
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        check_options(self, segment_tokens=32, k=1, max_new_tokens=1)

    def least(self, run: Run) -> Usage:
        """One segment probed and an answer from it."""
        fixed = run.model.count_tokens(question_frame(run, ()))
        answered = _answer(fixed)
        probed = fixed + SMALLEST_PASSAGE_TOKENS + run.model.count_tokens(OPENING + PLACE)
        return Usage(calls=2, prompt_tokens=probed + answered.prompt_tokens, generated_tokens=answered.generated_tokens)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        if "logprobs" not in run.model.capabilities:
            raise CapabilityError(f"{run.model.name} gives no log-probabilities", hint="xl3m needs them: use a local model")
        segments = self._segments(run, passages)
        order = self._surest_first(run, segments)
        chosen = [p for i in sorted(order[: self.k]) for p in segments[i].shown]
        if not chosen:
            return "" if run.cut_short else NOT_FOUND
        # Room is given to the surest first; they stand in the order of the text.
        ranked = [p for i in order[: self.k] for p in segments[i].shown]
        packed = pack_one(run, ranked, lambda shown: question_frame(run, reading_order(shown)), self.max_new_tokens)
        if packed.left_out_passages:
            run.note(f"{packed.left_out_passages} passages of the chosen segments did not fit and were left out")
        return answer(run, packed, "xl3m", self.max_new_tokens) or ""

    def _segments(self, run: Run, passages: list[Passage] | None) -> list[Packed]:
        source = run.corpus.passages() if passages is None else passages
        fixed = run.model.count_tokens(question_frame(run, ()))
        probe = run.model.count_tokens(OPENING + PLACE)
        with run.numbers_undone():  # what is only probed is not shown
            return pack_all(
                run, source, lambda shown: question_frame(run, shown), probe, keep=_answer(fixed), limit_tokens=fixed + self.segment_tokens
            )

    def _surest_first(self, run: Run, segments: Sequence[Packed]) -> list[int]:
        """Positions of the segments, lowest entropy first. Those the budget did not reach stand last, in order, and are counted."""
        fixed = run.model.count_tokens(question_frame(run, ()))
        entropies: list[float] = []
        for i, segment in enumerate(segments, 1):
            run.progress(f"segment {i} of {len(segments)}")
            score = scored(run, segment.prompt, OPENING + PLACE, keep=_answer(fixed))
            if score is None or score.entropies is None:
                break
            entropies.append(float(score.entropies[-1]))
        if len(entropies) < len(segments):
            run.note(f"{len(segments) - len(entropies)} of {len(segments)} segments were not read")
        read = sorted(range(len(entropies)), key=lambda i: entropies[i])
        return read or list(range(len(segments)))


def _answer(fixed_tokens: int) -> Usage:
    """What must stay unspent for the last call: its fixed prompt, a short text and a short answer."""
    return Usage(calls=1, prompt_tokens=fixed_tokens + 64, generated_tokens=16)
