"""What a model says of a session: a summary, keywords, and which of its turns help with a question."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from baywindow.documents.words import words
from baywindow.memory.calls import Items, worded
from baywindow.memory.conversation import DATA_RULE, batches, conversation, defused
from baywindow.memory.records import Record, Turn
from baywindow.memory.summaries import Folding, folded
from baywindow.memory.work import Work
from baywindow.models.base import Message, Prompt

SESSION = "session"
REPLY_TOKENS = 192
SUMMARY_RULES = "Sum up a session of a conversation: what each person told, planned or decided. A few short sentences with their names."
KEYWORD_RULES = f"List the people, places, things and subjects of a conversation, at most twenty, in its own words. {DATA_RULE}"
FILTER_RULES = (
    "Which messages help to answer the question? Give the numbers of all that hold part of the answer or lead to it, none if none does. "
    f"{DATA_RULE}"
)

KEYWORD_EXAMPLES = (
    (
        "<conversation>\n[1] Monday 8 May 2023, Anna: I adopted a dog in Lyon.\n</conversation>",
        '{"reasoning": "Anna tells of a dog.", "keywords": ["Anna", "dog", "Lyon"]}',
    ),
)
FILTER_EXAMPLES = (
    (
        "<conversation>\n[1] Monday 8 May 2023, Anna: Hi!\n[2] Monday 8 May 2023, Anna: I adopted a dog in Lyon.\n</conversation>\n\n"
        "Question: Where is Anna's dog from?",
        '{"reasoning": "It asks for the place.", "messages": [2]}',
    ),
)


class Keywords(Items):
    reasoning: str = Field(description="what it is about")
    keywords: list[str]


class Helpful(BaseModel):
    reasoning: str = Field(description="what the question asks for")
    messages: list[int] = Field(description="number of a message")


def describe(work: Work, session: Sequence[Turn], summary_tokens: int) -> Record:
    """The record of an ended session. Where no summary came, its own words stand in."""
    text, left = folded(work, Folding(name="memgas summary", rules=SUMMARY_RULES, summary_tokens=summary_tokens), "", session)
    rest = " ".join(turn.line for turn in left)
    data = {"keywords": _keywords(work, session)}
    return work.add(SESSION, f"{text} {rest}".strip(), session, data=data, reason="a session ended")


def helpful(work: Work, query: str, turns: Sequence[Turn]) -> list[Turn]:
    """The turns that a model would keep for a question; all those of a call whose reply is of no use."""

    def prompt(some: Sequence[Turn]) -> Prompt:
        body = f"{conversation(some)}\n\nQuestion: {defused(query)}\n\n{worded(Helpful)}"
        return (Message("system", FILTER_RULES), Message("user", body))

    kept: list[Turn] = []
    for batch in batches(turns, lambda some: work.room(prompt(some), REPLY_TOKENS)):
        reply = work.ask(prompt(batch), Helpful, name="memgas filter", max_new_tokens=REPLY_TOKENS, examples=FILTER_EXAMPLES)
        kept += batch if reply is None else [batch[n - 1] for n in reply.messages if 1 <= n <= len(batch)]
    return kept


def _keywords(work: Work, session: Sequence[Turn]) -> list[str]:
    """Keywords that the session holds, each once."""

    def prompt(some: Sequence[Turn]) -> Prompt:
        return (Message("system", KEYWORD_RULES), Message("user", f"{conversation(some)}\n\n{worded(Keywords)}"))

    said = set(words(" ".join(turn.line for turn in session)))
    found: list[str] = []
    for batch in batches(session, lambda some: work.room(prompt(some), REPLY_TOKENS)):
        reply = work.ask(prompt(batch), Keywords, name="memgas keywords", max_new_tokens=REPLY_TOKENS, examples=KEYWORD_EXAMPLES)
        found += reply.keywords if reply else ()
    return [word for word in dict.fromkeys(w.strip() for w in found) if words(word) and set(words(word)) <= said]
