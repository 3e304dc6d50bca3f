"""The model tidies its own view of a long text: cut, summarise, hide, bring back, search; the text itself is never altered.

Paper: Li et al. 2025, Sculptor: Empowering LLMs with Cognitive Agency via Active Context Management, arXiv:2508.04664. No code of the
experiments was found.
Idea: a visible view of the whole context is made of named pieces. Call by call the model asks for a tool that cuts a piece, replaces it by
a summary, hides it, restores it or searches the text, hidden pieces included, and sees the view as it then is, until it answers.
As a memory, a conversation is such a view: when it outgrows ``view_tokens``, older sessions are summarised or hidden, one a call; a
question sees the view, and what a search of the hidden pieces finds.
Departs from the paper: see the card.
Shapes and units: ``view_tokens`` of the model that edits; at most ``steps`` tool calls a question.
Cost: one call a session that leaves the view; a recall makes none; `answer` makes up to ``steps`` + 1.
Errors: ConfigError for an option below its least; ContextLengthError where the view does not fit the window even with all hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, Field

from baywindow.memory.base import MemorySystem, at_least
from baywindow.memory.calls import worded
from baywindow.memory.conversation import DATA_RULE, batches, conversation, evidence
from baywindow.memory.records import Recalled, Record, Turn, of_record, of_turn
from baywindow.memory.sculptor.answering import Sculpted, sculpted
from baywindow.memory.sculptor.view import View
from baywindow.memory.sessions import sessions
from baywindow.memory.summaries import grounded, unfolded
from baywindow.memory.work import Work
from baywindow.models.base import Message, Prompt
from baywindow.registry import technique

KIND = "piece"
REPLY_TOKENS = 192
TIDY = (
    "This part of a conversation must leave view. Choose summarise, with a summary of what may be needed later, or hide, if nothing in it "
    f"will be. It can be searched and brought back either way. {DATA_RULE}"
)

EXAMPLES = (
    (
        "<conversation>\n[1] Monday 8 May 2023, Anna: Hi! I adopted a dog in Lyon.\n</conversation>",
        '{"reasoning": "The dog may come up again.", "action": "summarise", "summary": "Anna adopted a dog in Lyon."}',
    ),
)


class Tidied(BaseModel):
    reasoning: str = Field(description="what may be needed later")
    action: Literal["summarise", "hide"]
    summary: str = Field("", description="the summary, empty to hide")


@technique(
    summary="a view that the model cuts, summarises, hides, restores and searches; originals stay",
    paper="arXiv:2508.04664",
    year=2025,
    needs=("text", "embedder"),
    claim="A model that may hide stale text before it answers is right more often on keys that were changed many times.",
    departures=(
        "tool calls are checked forms, so that models without function calling can make them",
        "tool names, arguments, piece size and step limit are ours: the paper's are not public",
        "as a memory, sessions leave the view oldest first and only when it is too long: a call a turn is dear",
        "the trained variant is not here: the zero-shot first version is",
    ),
)
class Sculptor(MemorySystem):
    view_tokens: int = 2000
    steps: int = 8
    k: int = 10  # turns of hidden pieces that a question finds
    gap_hours: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, view_tokens=32, steps=0, k=0, gap_hours=0)

    def absorb(self, work: Work, turns: Sequence[Turn]) -> None:
        visible = sessions(self._visible(work), timedelta(hours=self.gap_hours))
        # The session that is still open stays in view, however long it is.
        while len(visible) > 1 and sum(work.count_tokens(t.line) for s in visible for t in s) > self.view_tokens:
            self._tidy(work, visible.pop(0))

    def recall(self, work: Work, query: str, budget_tokens: int) -> list[Recalled]:
        """Summaries and visible turns in their order, newest first where not all fit, and what is found in pieces out of view."""
        visible = [of_turn(turn) for turn in self._visible(work)]
        told = [of_record(record) for record in self._pieces(work) if record.data.get("state") == "summarised"]
        shown = {one.turns[0] for one in visible}
        found = [one for one in self.search(work, query, self.k + len(visible)) if one.turns[0] not in shown][: self.k]
        best = work.packed([*found[: self.k // 2], *reversed(visible), *found[self.k // 2 :], *reversed(told)], budget_tokens)
        return sorted(best, key=lambda one: one.said_at)

    def search(self, work: Work, query: str, k: int) -> list[Recalled]:
        return [of_turn(turn, score) for turn, score in work.near_turns(query, k)]

    def view(self, work: Work) -> View:
        """The conversation as a view: pieces out of view as they stand there, then a piece for each session in view."""
        pieces = self._pieces(work)
        texts = [_text(work.turns(record.turns)) for record in pieces]
        made = View.of([*texts, *(_text(s) for s in sessions(self._visible(work), timedelta(hours=self.gap_hours)))])
        for n, record in enumerate(pieces, 1):
            made = made.summarise(f"p{n}", record.text) if record.data.get("state") == "summarised" else made.hide(f"p{n}")
        return made

    def answer(self, work: Work, question: str, text: str | View) -> Sculpted:
        """Answer a question on a long text by tidying a view of it first; the answer, the view as it was then, and the steps taken."""
        return sculpted(work, question, text if isinstance(text, View) else View.of([text]), self.steps)

    def restore(self, work: Work, record: Record) -> None:
        """Bring a piece back into view, with all pieces after it: what is in view is the newest part of a conversation."""
        for piece in self._pieces(work):
            if piece.said_at >= record.said_at:
                work.retire(piece, piece.turns, reason="restored")

    def _tidy(self, work: Work, session: Sequence[Turn]) -> None:
        summaries = []
        for batch in batches(session, lambda some: work.room(_tidying(some), REPLY_TOKENS)):
            reply = work.ask(_tidying(batch), Tidied, name="sculptor tidy", max_new_tokens=REPLY_TOKENS, examples=EXAMPLES)
            if reply is not None and reply.action == "summarise":
                summaries.append(grounded(reply.summary, evidence(batch)))
        text = " ".join(filter(None, summaries))
        data = {"state": "summarised" if text else "hidden"}
        work.add(KIND, text or _text(session), session, data=data, reason="left the view")

    def _pieces(self, work: Work) -> list[Record]:
        return sorted(work.records(KIND), key=lambda record: record.said_at)

    def _visible(self, work: Work) -> list[Turn]:
        return unfolded(work, {turn for record in self._pieces(work) for turn in record.turns})


def _tidying(turns: Sequence[Turn]) -> Prompt:
    return (Message("system", TIDY), Message("user", f"{conversation(turns)}\n\n{worded(Tidied)}"))


def _text(turns: Sequence[Turn]) -> str:
    return "".join(f"{turn.line}\n" for turn in turns)
