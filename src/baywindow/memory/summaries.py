"""Running summaries: old summary and new turns in, new summary out, in as many parts as the window asks for.

Two things go wrong with running summaries in the field. The call that should shorten a text overflows itself: here turns are folded in
batches that fit, and a summary that is too long for the window is made shorter first. And a summary that the model spoiled replaces a
good one: here a sentence with a name or number that neither the old summary nor the turns hold is left out, and where nothing is left the
old summary stands and the turns stay unfolded, to be tried again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from baywindow.memory.calls import worded
from baywindow.memory.conversation import DATA_RULE, batches, conversation, defused, evidence
from baywindow.memory.grounding import unsaid
from baywindow.memory.records import Turn
from baywindow.memory.work import Work
from baywindow.models.base import Message, Prompt

EMPTY = "Empty"
REASONING_TOKENS = 64
SHORTEN = "Say the same in fewer words. Keep names, dates and numbers."
EXAMPLES = (
    (
        "Old summary: Anna has a cat.\n\n<conversation>\n[1] Monday 8 May 2023, Anna: I adopted a dog yesterday.\n</conversation>",
        '{"reasoning": "She has a dog too now.", "summary": "Anna has a cat, and since 7 May 2023 a dog."}',
    ),
)
_LABEL = re.compile(r"^\W*(?:(?:updated|new) )?(?:memory|summary)\W*:\s*", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


class Summary(BaseModel):
    reasoning: str = Field(description="what the conversation adds or changes")
    summary: str = Field(description="the whole new summary")


@dataclass(frozen=True, kw_only=True)
class Folding:
    """How one system summarises: what it asks for, and the longest summary in tokens."""

    name: str
    rules: str
    summary_tokens: int

    @property
    def reply_tokens(self) -> int:
        return self.summary_tokens + REASONING_TOKENS

    def prompt(self, old: str, turns: Sequence[Turn]) -> Prompt:
        body = f"Old summary: {defused(old) or EMPTY}\n\n{conversation(turns)}\n\n{worded(Summary)}"
        return (Message("system", f"{self.rules} {DATA_RULE}"), Message("user", body))

    def shortening(self, text: str) -> Prompt:
        return (Message("system", SHORTEN), Message("user", f"<conversation>\n{defused(text)}\n</conversation>\n\n{worded(Summary)}"))


def folded(work: Work, how: Folding, old: str, turns: Sequence[Turn]) -> tuple[str, list[Turn]]:
    """The new summary, and the turns at the end that are not in it because the model gave nothing usable."""
    old = fitted(work, how, old, turns[:1])
    spare = max(0, how.summary_tokens - work.count_tokens(old))  # by which the summary may grow from batch to batch
    parts = batches(turns, lambda some: work.room(how.prompt(old, some), how.reply_tokens) - spare)
    for n, batch in enumerate(parts):
        reply = work.ask(how.prompt(old, batch), Summary, name=how.name, max_new_tokens=how.reply_tokens, examples=EXAMPLES)
        text = grounded(reply.summary, [old, *evidence(batch)]) if reply else ""
        if not text:
            work.note(f"{how.name}: no usable summary came; the turns are kept as they were said")
            left = {t.id for part in parts[n:] for t in part}
            return old, [t for t in turns if t.id in left]
        old = text
    return old, []


def fitted(work: Work, how: Folding, text: str, turns: Sequence[Turn]) -> str:
    """A summary that leaves at least half of the window to the turns: shortened in parts where it does not, and cut at the very last."""

    def left() -> int:
        return work.room(how.prompt(text, ()), how.reply_tokens) - work.model.context_length // 4

    while turns and left() < 0:
        parts = _halves(work, how, sentences(text))
        shorter = " ".join(_shortened(work, how, part) for part in parts).strip()
        if not shorter or len(shorter) >= len(text):
            work.note(f"{how.name}: the summary was too long for the window and was cut")
            shorter = " ".join(sentences(text)[1:]) or text[: len(text) // 2]
        text = shorter
    return text


def grounded(text: str, said: Sequence[str]) -> str:
    """A summary without an echoed label, and without the sentences whose names or numbers nobody said."""
    return " ".join(s for s in sentences(_LABEL.sub("", text.strip())) if not unsaid(s, said))


def sentences(text: str) -> list[str]:
    return [s.strip() for s in _SENTENCE.split(text) if s.strip()]


def unfolded(work: Work, done: Collection[str]) -> list[Turn]:
    """The turns since the last one whose id is in ``done``, in the order they came; all if there is none."""
    wanted = 64
    while True:
        turns = work.turns(last=wanted)
        places = [i for i, turn in enumerate(turns) if turn.id in done]
        if places or len(turns) < wanted:
            return turns[places[-1] + 1 :] if places else turns
        wanted *= 4


def _shortened(work: Work, how: Folding, text: str) -> str:
    if work.room(how.shortening(text), how.reply_tokens) < 0:
        return ""
    reply = work.ask(how.shortening(text), Summary, name=how.name, max_new_tokens=how.reply_tokens)
    return grounded(reply.summary, [text]) if reply else ""


def _halves(work: Work, how: Folding, pieces: Sequence[str]) -> list[str]:
    """Sentences joined to parts that each fit a call."""
    text = " ".join(pieces)
    if work.room(how.shortening(text), how.reply_tokens) >= 0 or len(pieces) < 2:
        return [text]
    middle = len(pieces) // 2
    return _halves(work, how, pieces[:middle]) + _halves(work, how, pieces[middle:])
