"""Put the text into the prompt twice, with the question before and behind it.

Paper: Arora et al. 2024, Just read twice: closing the recall gap for recurrent language models, arXiv:2407.05483 (JRT-Prompt). Code:
HazyResearch/prefix-linear-attention. The trained JRT-RNN layer of the same paper is not part of this.
Idea: a model that reads once, left to right, must guess what to remember; at the second reading it knows what was asked and what came.
Prompt: question, text, the same text, question.
Departs from the paper: see the card.
Shapes and units: tokens of the target model; the text may fill half of the window.
Cost: one call of twice the text.
Errors: ContextLengthError if the question alone fills the window. What does not fit is left out, said and counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.budget import Usage
from baywindow.context.base import SMALLEST_PASSAGE_TOKENS, Reader
from baywindow.context.capped import check_options
from baywindow.context.prompt import Packed, fenced, pack_one
from baywindow.context.reply import ANSWER, answer
from baywindow.context.run import SHORTEST_ANSWER_TOKENS, Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique


@technique(
    summary="the text stands in the prompt twice, with the question before and behind it",
    paper="arXiv:2407.05483",
    year=2024,
    claim="Reading the text twice raises the recall of recurrent models by about ten points; Transformers gain little.",
    departures=(
        "the text is what fits half of the window; the paper's harness crops each document around the known answer",
        "answers may have max_new_tokens=256 like other readers; the paper's tasks need about 50",
        "the prompt asks for citations and fences the text as data, as all readers do",
    ),
)
class ReadTwice(Reader):
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        check_options(self, max_new_tokens=1)

    def least(self, run: Run) -> Usage:
        prompt_tokens = run.model.count_tokens(_prompt(run, (), 1)) + SMALLEST_PASSAGE_TOKENS
        return Usage(calls=1, prompt_tokens=prompt_tokens, generated_tokens=SHORTEST_ANSWER_TOKENS)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        source = run.corpus.passages() if passages is None else passages
        packed = pack_one(run, source, lambda shown: _prompt(run, shown, 1), self.max_new_tokens, limit_tokens=self._half(run))
        shown = list(packed.shown)
        room = run.room(0, self.max_new_tokens)
        while len(shown) > 1 and run.model.count_tokens(_prompt(run, shown, 2)) > room:
            shown.pop()
        left_out = packed.left_out_passages + len(packed.shown) - len(shown)
        if left_out:
            run.note(f"{left_out} passages did not fit the window twice and were left out")
        prompt = _prompt(run, shown, 2)
        if run.model.count_tokens(prompt) > room:  # one passage, cut to what the window holds once
            run.note("the window has no room for a second reading")
            prompt = _prompt(run, shown, 1)
        return answer(run, Packed(prompt, tuple(shown), packed.left_out, left_out), "read_twice", self.max_new_tokens) or ""

    def _half(self, run: Run) -> int:
        """The longest prompt with the text once whose text also fits a second time; the whole room where half of it holds no text."""
        once, room = run.model.count_tokens(_prompt(run, (), 1)), run.room(0, self.max_new_tokens)
        half = max(0, room - once) // 2
        return once + half if half >= SMALLEST_PASSAGE_TOKENS else room


def _prompt(run: Run, shown: Sequence[Passage], times: int) -> Prompt:
    text = "\n\n".join([fenced(run, reading_order(shown))] * times)
    return ANSWER.prompt(run, f"Question: {run.question}\n\n{text}\n\nQuestion: {run.question}")
