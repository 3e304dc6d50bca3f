"""Which part of a prompt the next prompt is likely to begin with too: everything before its question."""

from __future__ import annotations

from dataclasses import replace

from baywindow.models.base import Prompt


def stable_part(prompt: Prompt | str) -> Prompt | str:
    """The prompt without its question: what the next question is likely to be asked of again. Of a text, and of the last message of a
    user, the last paragraph is the question; a single paragraph is all question."""
    if isinstance(prompt, str):
        return _before_question(prompt)
    last = max((i for i, message in enumerate(prompt) if message.role == "user"), default=len(prompt) - 1)
    return [*prompt[:last], replace(prompt[last], content=_before_question(prompt[last].content))]


def _before_question(text: str) -> str:
    """Up to the last break between paragraphs that has text behind it."""
    end = text.rstrip().rfind("\n\n")
    return text[: end + 2] if end >= 0 else ""
