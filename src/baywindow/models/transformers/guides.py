"""Replies that cannot leave a JSON schema: before each token, which ones may come.

llguidance follows the grammar over the model's own tokens. Blanks between parts are few, else a small model that likes line breaks would
write nothing else. What ends a reply may come only where the grammar is complete.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import llguidance
import llguidance.hf
import torch
from torch import Tensor

from baywindow.errors import ConfigError

_BLANKS = r"[ \n]{0,16}"  # between two parts of the JSON: enough to indent it
_KEPT = 64  # grammars of schemas seen lately


class Guides:
    """Makes guides for one tokenizer, which is read once, when it is first needed: seconds, for a large vocabulary. Thread-safe."""

    def __init__(self, tokenizer: Any, ends: frozenset[int]) -> None:
        self._tokenizer, self._ends = tokenizer, ends
        self._lock = threading.Lock()
        self._vocabulary: Any = None
        self._made: dict[str, Any] = {}

    def of(self, schema: dict[str, Any]) -> Guide:
        """ConfigError, in llguidance's words, for what is no schema or asks for what it cannot follow."""
        key = json.dumps(schema)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._matcher(key)
                if len(self._made) > _KEPT:
                    del self._made[next(iter(self._made))]
            return Guide(self._made[key].deep_copy(), self._ends)

    def _matcher(self, schema: str) -> Any:
        if self._vocabulary is None:
            self._vocabulary = llguidance.hf.from_tokenizer(self._tokenizer, eos_token=sorted(self._ends))
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": _BLANKS})
        made = llguidance.LLMatcher(self._vocabulary, grammar)
        if made.is_error():
            raise ConfigError(f"the JSON schema cannot be followed: {made.get_error()[:200]}", hint="simplify it")
        return made


class Guide:
    """One reply's place in a grammar."""

    def __init__(self, matcher: Any, ends: frozenset[int]) -> None:
        self._matcher, self._ends = matcher, sorted(ends)

    def allowed(self, width: int) -> Tensor:
        """Which of the ``width`` tokens of a vocabulary may come next (bool).

        Where the grammar outgrew what llguidance follows, the reply ends there, cut off: an error would end its neighbours in a batch.
        """
        found = torch.zeros(width, dtype=torch.bool)
        if not self._matcher.is_stopped():
            bias = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)[:width]
            found[: len(bias)] = bias.bool()
        found[self._ends] = bool(self._matcher.is_accepting() or self._matcher.is_error())
        return found

    def take(self, token: int) -> None:
        """A token was chosen; after the end nothing counts any more."""
        if not self._matcher.is_stopped() and token not in self._ends:
            self._matcher.consume_token(token)
