"""What a technique asks of a model beside replies: scores and attention, on the same meter as every call.

`Run.call` promises that nothing escapes the budget; these two keep the promise for reading without writing.
"""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.budget import NOTHING, Usage
from baywindow.context.run import Run
from baywindow.models.base import Inspection, Prompt, Score, Want


def scored(run: Run, prompt: str | Prompt, continuation: str, keep: Usage = NOTHING) -> Score | None:
    """`LanguageModel.score`, or None if the budget does not allow it beside what later calls ``keep``."""
    tokens = run.model.count_tokens(prompt) + run.model.count_tokens(continuation)
    if not _affordable(run, tokens, keep):
        return None
    found = run.model.score(prompt, continuation)
    run.meter.charge(tokens, 0)
    return found


def inspected(run: Run, text: str, layers: Sequence[int], want: frozenset[Want], keep: Usage = NOTHING) -> Inspection | None:
    """`LanguageModel.inspect`, or None if the budget does not allow it beside what later calls ``keep``."""
    tokens = run.model.count_tokens(text)
    if not _affordable(run, tokens, keep):
        return None
    found = run.model.inspect(text, layers, want)
    run.meter.charge(tokens, 0)
    return found


def _affordable(run: Run, tokens: int, keep: Usage) -> bool:
    if run.meter.allows(tokens + keep.prompt_tokens, keep.generated_tokens):
        return True
    run.spent()
    return False
