"""A request understood, whatever route it came by."""

from __future__ import annotations

from dataclasses import dataclass

from baywindow.config import Settings
from baywindow.documents.base import Corpus
from baywindow.models.base import Embedder, Prompt, Sampling
from baywindow.server.conversation import Conversation
from baywindow.server.names import Named

LEAST_ANSWER_TOKENS = 256  # a prompt that leaves less than this, and less than was asked for, does not fit


@dataclass(frozen=True, kw_only=True)
class Task:
    """``text`` is what the completions API continues, else None. ``new_tokens`` None: no limit was named. ``corpus`` is a vector store
    that the question is asked of. ``choices`` replies are asked for; ``one_call``: each may call one tool only."""

    named: Named
    conversation: Conversation
    sampling: Sampling
    new_tokens: int | None = None
    text: str | None = None
    corpus: Corpus | None = None
    embedder: Embedder | None = None
    settings: Settings
    choices: int = 1
    one_call: bool = False

    @property
    def prompt(self) -> Prompt | str:
        return self.text if self.text is not None else self.conversation.messages

    @property
    def shaped(self) -> bool:
        """Whether the reply is to have what only the model's own words can have: calls, a form, scores, or others beside it."""
        asked = self.sampling
        return bool(asked.tools) or asked.json_schema is not None or asked.logprobs is not None or self.choices > 1
