"""`POST /v1/tokens`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from baywindow.models.base import Message, Prompt, Role
from baywindow.server.errors import ApiError
from baywindow.server.forms.base import Form, Text


class CountedMessage(Form):
    """A message of plain text; nothing is left out or joined before it is counted."""

    role: Role
    content: Text


class TokensForm(Form):
    model: Text
    text: Text | None = None
    messages: Annotated[list[CountedMessage], Field(min_length=1, max_length=10_000)] | None = None

    def counted(self) -> str | Prompt:
        """The text or the prompt. 400 unless one of the two is given."""
        if (self.text is None) == (self.messages is None):
            raise ApiError(400, "one of 'text' and 'messages' is counted", hint="send one of them", param="messages")
        return self.text if self.text is not None else [Message(m.role, m.content) for m in self.messages or ()]
