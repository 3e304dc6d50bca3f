"""A conversation made to fit, for requests that no reader can answer: chosen passages take the place of the long text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from baywindow.context.prompt import DATA_RULE, Packed, fenced, messages, pack_one
from baywindow.context.run import Run
from baywindow.context.stages import best_passages, run_stages
from baywindow.documents.base import Passage
from baywindow.documents.memory import InMemory
from baywindow.models.base import LanguageModel, Message, Prompt
from baywindow.server.conversation import taken_apart
from baywindow.server.errors import ApiError
from baywindow.server.task import LEAST_ANSWER_TOKENS, Task

MOST_PASSAGES = 50  # of the default retriever, where the recipe names no stage


@dataclass(frozen=True)
class Shortened:
    """The messages to send, and the trace of how they came about."""

    messages: Prompt
    recipe: str
    packed: Packed
    run: Run

    def report(self) -> dict[str, Any]:
        regions = self.packed.regions(self.run)
        return {
            "recipe": self.recipe,
            "read": "shortened",
            "tokens_kept": self.run.model.count_tokens(self.messages),
            "tokens_left_out": sum(r.tokens for r in regions if r.fate == "left_out"),
            "notes": list(self.run.notes),
            "steps": [{"name": "shortened", "regions": [vars(r) for r in regions]}],
        }


def shortened(task: Task, model: LanguageModel) -> Shortened:
    """Passages, best first, as many as leave room for the answer. ContextLengthError if the question alone does not fit, 400 where the
    last message is not a user's: what a tool returned belongs to the call before it."""
    if task.conversation.turns[-1].role != "user":
        raise ApiError(
            400,
            "the conversation exceeds the window in the middle of a tool call",
            hint="drop old messages, or ask anew",
            param="messages",
            code="context_length_exceeded",
        )
    asked = taken_apart(task.conversation, model.count_tokens, model.context_length)
    corpus = task.corpus or InMemory(asked.documents, chunk_tokens=task.settings.chunk_tokens, embedder=task.embedder)
    run = Run(asked.question, corpus, model)
    passages = run_stages(run, task.named.recipe.outside[:-1])
    if passages is None:
        passages = best_passages(run, None, MOST_PASSAGES)
    kept_free = (task.new_tokens or LEAST_ANSWER_TOKENS) + _of_tools(task, model)
    packed = pack_one(run, passages, partial(_frame, run, asked.instructions), kept_free)
    if packed.left_out_passages:
        run.note(f"{packed.left_out_passages} of {len(passages)} passages did not fit and were left out")
    return Shortened(packed.prompt, str(task.named.recipe), packed, run)


def _of_tools(task: Task, model: LanguageModel) -> int:
    """Tokens that the template spends on the tools."""
    plain = (Message("user", "?"),)
    return model.prompt_tokens(plain, task.sampling) - model.count_tokens(plain) if task.sampling.tools else 0


def _frame(run: Run, instructions: str, shown: Sequence[Passage]) -> Prompt:
    return messages("\n\n".join(filter(None, [instructions, DATA_RULE])), f"{fenced(run, shown)}\n\n{run.question}")
