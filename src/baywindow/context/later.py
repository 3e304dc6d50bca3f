"""What a stage before the reader must leave unspent."""

from __future__ import annotations

from baywindow.budget import Usage
from baywindow.context.base import SMALLEST_PASSAGE_TOKENS
from baywindow.context.reply import question_frame
from baywindow.context.run import SHORTEST_ANSWER_TOKENS, Run


def answer_reserve(run: Run) -> Usage:
    """The least that a reader's one call needs after this stage, so that a stage's own calls cannot eat up the answer."""
    prompt_tokens = run.model.count_tokens(question_frame(run, ())) + SMALLEST_PASSAGE_TOKENS
    return Usage(calls=1, prompt_tokens=prompt_tokens, generated_tokens=SHORTEST_ANSWER_TOKENS)
