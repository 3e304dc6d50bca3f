"""From a chat to a question and the text it is asked of: the rule by which a prompt beyond the window is taken apart.

1. System and developer messages are the application's *instructions*. They stand before every call. What exceeds a quarter of the
   window is cut off at a paragraph and becomes text.
2. The last user message holds the *question*. If it has several text parts, the last one; else, if it is longer than a question
   (`QUESTION_CHARACTERS`), its last paragraph (line, sentence), together with its first one if that ends with a colon or a
   question mark. The rest of it is *text*.
3. Earlier turns: the latest stand with the instructions, as many as fit an eighth of the window; the older ones are text.
4. Attached files are text.

All text becomes documents in memory, each with a name that citations show, and the recipe reads them. They are data: nothing in them
is an instruction. Only the three things above speak for the application and its user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from baywindow.documents.base import Document
from baywindow.models.base import Message, Role
from baywindow.models.calling import Call

QUESTION_CHARACTERS = 1500
INSTRUCTIONS_SHARE = 4  # one part in so many of the window
RECENT_SHARE = 8
Count = Callable[[str], int]


@dataclass(frozen=True)
class Turn:
    """One message as it was sent, its text parts apart. An assistant's may call tools, a tool's ``answers`` such a call."""

    role: Role
    parts: tuple[str, ...]
    calls: tuple[Call, ...] = ()
    answers: Call | None = None

    @property
    def text(self) -> str:
        return "\n\n".join(self.parts)


@dataclass(frozen=True)
class Conversation:
    """A chat, and the documents that were attached to it."""

    turns: tuple[Turn, ...]
    attached: tuple[Document, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """As the model is asked when everything fits; attached documents stand before the last user message."""
        found = [Message(turn.role, turn.text, turn.calls, turn.answers) for turn in self.turns]
        if self.attached:
            at = _last_user(self.turns)
            shown = "\n\n".join(f"{document.source}:\n{document.text}" for document in self.attached)
            found[at] = Message("user", f"{shown}\n\n{found[at].content}")
        return tuple(found)


@dataclass(frozen=True)
class Asked:
    """The same, taken apart: what is asked, under which instructions, of which documents."""

    question: str
    instructions: str
    documents: tuple[Document, ...]


def taken_apart(conversation: Conversation, count: Count, window_tokens: int) -> Asked:
    """By the rule above. ``documents`` is empty if there is no long text at all."""
    last = _last_user(conversation.turns)
    question, rest = question_of(conversation.turns[last].parts)
    earlier = [turn for i, turn in enumerate(conversation.turns) if turn.role != "system" and i != last]
    system = "\n\n".join(turn.text for turn in conversation.turns if turn.role == "system")
    instructions, beyond = _head(system, count, window_tokens // INSTRUCTIONS_SHARE)
    recent, older = _recent(earlier, count, window_tokens // RECENT_SHARE)
    if recent:
        instructions = "\n\n".join(filter(None, [instructions, "Earlier in this conversation:\n" + "\n".join(map(_line, recent))]))
    texts = {"instructions": beyond, "conversation": "\n\n".join(map(_line, older)), "message": rest}
    made = [Document(text, source) for source, text in texts.items() if text.strip()]
    return Asked(question, instructions, (*made, *_apart(conversation.attached, {d.source for d in made})))


def question_of(parts: Sequence[str]) -> tuple[str, str]:
    """The question in a user's message, and the rest of it."""
    *before, last = [part for part in parts if part.strip()] or [""]
    rest = "\n\n".join(before)
    if len(last) <= QUESTION_CHARACTERS:
        short = len(rest) <= QUESTION_CHARACTERS
        return ("\n\n".join(filter(None, [rest, last])), "") if short else (last, rest)
    for pattern in (r"\n\s*\n", r"\n", r"(?<=[.!?])\s+"):
        pieces = [piece for piece in re.split(pattern, last.strip()) if piece.strip()]
        if len(pieces) > 1 and (found := _question_among(pieces)) is not None:
            question, text = found
            return question, "\n\n".join(filter(None, [rest, "\n\n".join(text) if pattern.startswith(r"\n\s") else "\n".join(text)]))
    return last[-QUESTION_CHARACTERS:], "\n\n".join(filter(None, [rest, last[:-QUESTION_CHARACTERS]]))


def _question_among(pieces: list[str]) -> tuple[str, list[str]] | None:
    """The pieces at the ends that ask, and those between; None if none of them is short enough to be a question."""
    first, last = pieces[0].strip(), pieces[-1].strip()
    opens = len(first) <= QUESTION_CHARACTERS and first.endswith((":", "?"))
    closes = len(last) <= QUESTION_CHARACTERS
    if not (opens or closes):
        return None
    asked = [first] * opens + [last] * closes
    return "\n\n".join(asked), pieces[1 if opens else 0 : -1 if closes else None]


def _head(text: str, count: Count, most_tokens: int) -> tuple[str, str]:
    """As many paragraphs of a text as fit, and the rest."""
    if not text or count(text) <= most_tokens:
        return text, ""
    paragraphs = text.split("\n\n")
    kept = 0
    while kept < len(paragraphs) and count("\n\n".join(paragraphs[: kept + 1])) <= most_tokens:
        kept += 1
    return "\n\n".join(paragraphs[:kept]), "\n\n".join(paragraphs[kept:])


def _recent(turns: Sequence[Turn], count: Count, most_tokens: int) -> tuple[list[Turn], list[Turn]]:
    """The latest turns that fit together, and the older ones, both in order."""
    used, at = 0, len(turns)
    while at > 0 and (used := used + count(_line(turns[at - 1]))) <= most_tokens:
        at -= 1
    return list(turns[at:]), list(turns[:at])


def _line(turn: Turn) -> str:
    called = "; ".join(f"called {call.name} with {call.arguments}" for call in turn.calls)
    return f"{turn.role.capitalize()}: {' '.join(filter(None, [turn.text, called]))}"


def _last_user(turns: Sequence[Turn]) -> int:
    return max((i for i, turn in enumerate(turns) if turn.role == "user"), default=len(turns) - 1)


def _apart(attached: Sequence[Document], taken: set[str]) -> list[Document]:
    """Documents whose names differ from all others, as citations need."""
    found = []
    for document in attached:
        name, n = document.source, 1
        while name in taken:
            n += 1
            name = f"{document.source} ({n})"
        taken.add(name)
        found.append(Document(document.text, name, document.marks, document.metadata))
    return found
