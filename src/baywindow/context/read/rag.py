"""Answer from the few best passages in one call.

Paper: Lewis et al. 2020, Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks, arXiv:2005.11401.
Idea: retrieve, put the best passages before the question, generate once.
Departs from the paper: retriever and generator are not trained together, and passages are joined in one prompt instead of being
marginalised over, as all present-day use of the name does. The best passage stands first.
Shapes and units: ``k`` passages, at most ``budget_tokens`` of prompt for them; tokens of the target model.
Cost: one retrieval and one call.
Errors: none of its own; without passages it answers "not found" and makes no call.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from baywindow.budget import Budgeted
from baywindow.context.base import Reader
from baywindow.context.prompt import pack_one
from baywindow.context.reply import NOT_FOUND, answer, question_frame
from baywindow.context.run import Run
from baywindow.context.stages import best_passages
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.registry import technique


@technique(
    summary="the few best passages in one prompt, best first",
    paper="arXiv:2005.11401",
    year=2020,
    claim="Answers grounded in retrieved passages are more often right than answers without them.",
    departures=(
        "no joint training of retriever and generator: any model can be used",
        "passages share one prompt instead of being marginalised over: one call instead of k",
    ),
)
class Rag(Budgeted, Reader):
    default_budget_tokens: ClassVar[int] = 2048

    k: int = 8
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise ConfigError.bad_value("k", self.k, "at least 1")

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        found = best_passages(run, passages, self.k)
        if not found:
            return NOT_FOUND
        share = self.budget_of(run.model.context_length)
        packed = pack_one(run, found, partial(question_frame, run), self.max_new_tokens, limit_tokens=share)
        if packed.left_out_passages:
            most = min(share, run.room_without_budget())
            run.note(f"{packed.left_out_passages} of {len(found)} retrieved passages did not fit {most} tokens and were left out")
        return answer(run, packed, "rag", self.max_new_tokens) or ""
