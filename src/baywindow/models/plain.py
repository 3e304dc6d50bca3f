"""The form in which a base model is asked: a short transcript that ends where the answer begins.

    SYSTEM TEXT

    User: an example question
    Assistant: its answer

    User: the question
    Assistant:

A base model continues text, so examples show it the form, and the next ``User:`` ends its turn. There are no control tokens here, so
a line of content that would open a turn is moved in by one space: text of a document cannot speak as somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from baywindow.models.base import Message, Prompt

_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}
_TURN = re.compile(r"^(?=(?:System|User|Assistant):)", re.MULTILINE)
_TURN_STOPS = ("\nUser:", "\nSystem:", "\nAssistant:")

Examples = Sequence[tuple[str, str]]


def plain_prompt(prompt: Prompt, examples: Examples = ()) -> str:
    """The transcript. Examples stand before the first user message; an assistant message at the end is continued."""
    first_user = next((i for i, m in enumerate(prompt) if m.role == "user"), len(prompt))
    shown = [Message(role, text) for pair in examples for role, text in zip(("user", "assistant"), pair, strict=True)]  # type: ignore[arg-type]
    turns = [*prompt[:first_user], *shown, *prompt[first_user:]]
    text = "".join(_turn(one, two) for one, two in pairwise([*turns, None]) if one is not None)
    return text if turns and turns[-1].role == "assistant" else text + "Assistant:"


def turns_of(prompt: Prompt) -> list[tuple[str, str]]:
    """The user and assistant pairs that stand in a prompt before its last message: examples that came with it."""
    return [(a.content, b.content) for a, b in pairwise(prompt[:-1]) if (a.role, b.role) == ("user", "assistant")]


def plain_stops(examples: Examples = ()) -> tuple[str, ...]:
    """What ends the answer: another turn; and a line's end, if no example's answer has more than one line."""
    one_line = bool(examples) and all("\n" not in answer.strip() for _, answer in examples)
    return (*_TURN_STOPS, "\n") if one_line else _TURN_STOPS


def _turn(message: Message, following: Message | None) -> str:
    content = _TURN.sub(" ", message.content.strip())
    if message.role == "system":
        return f"{content}\n\n"
    if message.role == "user":
        return f"{_NAMES['user']}: {content}\n"
    return f"{_NAMES['assistant']}: {content}" + ("\n\n" if following is not None else "")
