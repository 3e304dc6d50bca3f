"""Counting the tokens of a model that runs elsewhere.

With a named local tokenizer, texts are counted exactly. Without one they are estimated from their UTF-8 bytes. What the server's
template adds to a prompt is unknown at first and assumed generously; every reply states the prompt's true count (``usage``), from
which both are corrected: the template's share for the same sequence of roles, and the bytes per token.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path

from baywindow.errors import ModelError
from baywindow.models.base import Prompt

BYTES_PER_TOKEN = 3.0  # at first; English has about 4.2, code 3.3, so this counts too many rather than too few
_TEMPLATE_TOKENS, _MESSAGE_TOKENS = 32, 8  # at first: some templates add a system text of their own
_TELLING_BYTES = 400  # from here on a prompt tells of bytes per token, below of the template

Count = Callable[[str], int]


class Counter:
    """Counts for one endpoint's model. ``exact`` is True with a tokenizer. Thread-safe."""

    def __init__(self, tokenizer: str | None = None) -> None:
        self._count = _tokenizer(tokenizer) if tokenizer else None
        self.exact = self._count is not None
        self._lock = threading.Lock()
        self._added: dict[tuple[str, ...], int] = {}
        self._bytes = 0
        self._tokens = 0

    def of(self, text: str | Prompt) -> int:
        """Tokens of a text, or of a prompt with what the template adds, as far as that is known."""
        if isinstance(text, str):
            return self._text(text)
        return self._texts(text) + self._template(text)

    def learn(self, prompt: Prompt, prompt_tokens: int) -> None:
        """Correct from what the server says a prompt had."""
        size = sum(len(m.content.encode()) for m in prompt)
        with self._lock:
            if self._count is not None or size < _TELLING_BYTES:
                self._added[_roles(prompt)] = max(0, prompt_tokens - self._texts(prompt))
            else:
                self._bytes += size
                self._tokens += max(1, prompt_tokens - self._template(prompt))

    def _template(self, prompt: Prompt) -> int:
        return self._added.get(_roles(prompt), _TEMPLATE_TOKENS + _MESSAGE_TOKENS * len(prompt))

    def _texts(self, prompt: Prompt) -> int:
        return sum(self._text(m.content) for m in prompt)

    def _text(self, text: str) -> int:
        if self._count is not None:
            return self._count(text)
        each = self._bytes / self._tokens if self._tokens else BYTES_PER_TOKEN
        return math.ceil(len(text.encode()) / each)


def _roles(prompt: Prompt) -> tuple[str, ...]:
    return tuple(m.role for m in prompt)


def _tokenizer(name: str) -> Count:
    """A tokenizer.json, a folder with one, or a hub id. ModelError if there is none."""
    from tokenizers import Tokenizer

    path = Path(name).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        found = Tokenizer.from_file(str(file)) if file.is_file() else Tokenizer.from_pretrained(name)
    except Exception as error:  # the library raises plain Exception for anything wrong with a file or the network
        first = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise ModelError(
            f"there is no tokenizer {name!r}: {first}", hint="give a tokenizer.json, a folder with one, or a hub id"
        ) from error
    found.encode_special_tokens = True  # control tokens written in content are content
    return lambda text: len(found.encode(text, add_special_tokens=False).ids)
