"""`POST /v1/tokens`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from baywindow.models.base import LanguageModel, Message, Role, Sampling
from baywindow.server.errors import ApiError
from baywindow.server.forms.base import Examples, Form, NewTokens, Text, pairs


class CountedMessage(Form):
    """A message of plain text; nothing is left out or joined before it is counted."""

    role: Role
    content: Text


class TokensForm(Form):
    """``examples`` are counted with messages, as a base model is shown them: as many as leave room for ``max_tokens``."""

    model: Text
    text: Text | None = None
    messages: Annotated[list[CountedMessage], Field(min_length=1, max_length=10_000)] | None = None

    examples: Examples | None = None
    max_tokens: NewTokens = 1

    def count(self, model: LanguageModel) -> int:
        """Tokens by this model. 400 unless one of text and messages is given."""
        if (self.text is None) == (self.messages is None):
            raise ApiError(400, "one of 'text' and 'messages' is counted", hint="send one of them", param="messages")
        if self.text is not None:
            return model.count_tokens(self.text)
        prompt = [Message(m.role, m.content) for m in self.messages or ()]
        return model.prompt_tokens(prompt, Sampling(max_new_tokens=self.max_tokens, examples=pairs(self.examples)))
