"""Let the text make its own examples: questions about single paragraphs, answered with the paragraph's number.

Paper: Cattan et al. 2024, Can Few-shot Work in Long-Context? Recycling the Context to Generate Demonstrations, arXiv:2406.13632. No
code was found; from the text.
Idea: for ``k`` paragraphs drawn at random a call that sees only that paragraph writes one question and its answer. The last prompt holds
the text once, these examples (question, number of the paragraph, answer) and the question; the model names its paragraphs first.
Departs from the paper: see the card.
Shapes and units: ``k`` examples of at most ``example_tokens`` each; tokens of the target model.
Cost: ``k`` short calls in parallel and one of up to the window.
Errors: none of its own. An example that could not be made is left out; without any, the last prompt is an ordinary one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from baywindow.budget import Usage
from baywindow.context.base import SMALLEST_PASSAGE_TOKENS, Reader
from baywindow.context.capped import check_options
from baywindow.context.prompt import DATA_RULE, Packed, defused, fenced, messages, pack_one
from baywindow.context.reply import NOT_FOUND, answer
from baywindow.context.run import SHORTEST_ANSWER_TOKENS, Call, Run
from baywindow.context.stages import reading_order
from baywindow.context.structured import Field, Form, ask_many
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique

EXAMPLE_SYSTEM = (
    f"Write one factual question that the passage answers without any other text, and its short answer, in the passage's words. {DATA_RULE}"
)
EXAMPLE_FORM = Form((Field(name="question", about="the question"), Field(name="answer", about="its short answer")))
ANSWER_FIRST_CITE_SYSTEM = (
    "Answer the last question from the passages. First write the numbers of the passages that hold the answer, like [1], then the answer "
    f"in one or two short sentences, as the examples do. {DATA_RULE} If the passages do not hold the answer, reply only: {NOT_FOUND}"
)


@dataclass(frozen=True)
class Example:
    question: str
    answer: str
    passage: Passage


@technique(
    summary="examples made from the text itself, each with its passage's number, before the question",
    paper="arXiv:2406.13632",
    year=2024,
    claim="Examples made from the same text raise question answering over the same prompt without examples.",
    departures=(
        "paragraphs are the corpus's passages, so that every number is a citation",
        "what does not fit the window is left out, and paragraphs are drawn from what is shown; the paper's texts fit",
        "the answering model writes the examples itself; the paper's writer is a smaller one",
    ),
)
class Doubledipper(Reader):
    k: int = 3
    example_tokens: int = 96
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self, k=1, example_tokens=16, max_new_tokens=1, seed=0)

    def least(self, run: Run) -> Usage:
        prompt_tokens = run.model.count_tokens(_prompt(run, (), ())) + SMALLEST_PASSAGE_TOKENS
        return Usage(calls=1, prompt_tokens=prompt_tokens, generated_tokens=SHORTEST_ANSWER_TOKENS)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        source = run.corpus.passages() if passages is None else passages
        room = run.room(0, self.max_new_tokens)
        empty = run.model.count_tokens(_prompt(run, (), ()))
        # Examples may take what is asked for, but no more than a quarter of what a small window leaves.
        reserved = min(self.k * self.example_tokens, max(0, room - empty) // 4)
        packed = pack_one(run, source, lambda shown: _prompt(run, shown, ()), self.max_new_tokens, limit_tokens=room - reserved)
        if packed.left_out_passages:
            run.note(f"{packed.left_out_passages} passages did not fit and were left out")
        examples = self._examples(run, packed)
        while examples and run.model.count_tokens(_prompt(run, packed.shown, examples)) > room:
            examples = examples[:-1]
        made = Packed(_prompt(run, packed.shown, examples), packed.shown, packed.left_out, packed.left_out_passages)
        return answer(run, made, "doubledipper", self.max_new_tokens) or ""

    def _examples(self, run: Run, packed: Packed) -> list[Example]:
        """Up to ``k`` examples; none where the budget leaves only the answer."""
        drawn = random.Random(self.seed).sample(packed.shown, min(self.k, len(packed.shown)))
        keep = Usage(calls=1, prompt_tokens=run.model.count_tokens(packed.prompt), generated_tokens=self.max_new_tokens)
        fits = [p for p in drawn if run.model.count_tokens(_asking(run, p)) + self.example_tokens <= run.room_without_budget()]
        each = Usage(
            prompt_tokens=sum(run.model.count_tokens(_asking(run, p)) for p in fits), generated_tokens=len(fits) * self.example_tokens
        )
        both = (each.prompt_tokens + keep.prompt_tokens, each.generated_tokens + keep.generated_tokens)
        if not fits or not run.meter.allows(*both, len(fits) + 1):
            return []  # examples are a help, not the answer: nothing is cut short without them
        how = Call(name="examples", max_new_tokens=self.example_tokens, keep=keep)
        replies = ask_many(run, [_asking(run, p) for p in fits], EXAMPLE_FORM, how)
        made = [Example(r.text("question"), r.text("answer"), p) for r, p in zip(replies, fits, strict=True) if r is not None]
        return [e for e in made if e.question and e.answer]


def _asking(run: Run, passage: Passage) -> Prompt:
    return messages(EXAMPLE_SYSTEM, f"{fenced(run, (passage,))}\n\n{EXAMPLE_FORM.wording}")


def _prompt(run: Run, shown: Sequence[Passage], examples: Sequence[Example]) -> Prompt:
    parts = [fenced(run, reading_order(shown))]
    parts += [f"Question: {defused(e.question)}\nAnswer: [{run.number(e.passage)}] {defused(e.answer)}" for e in examples]
    return messages(ANSWER_FIRST_CITE_SYSTEM, "\n\n".join([*parts, f"Question: {run.question}"]))
