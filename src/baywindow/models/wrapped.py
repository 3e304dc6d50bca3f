"""A model that is another one in all that it does not do otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baywindow.models.base import Completion, Held, Inspection, LanguageModel, Prompt, Sampling, Score, Stream, Want
from baywindow.registry import Technique

GREEDY = Sampling()


class Wrapped(LanguageModel):
    """Another model, through and through; what differs is overridden.

    Batches, kept beginnings and texts read once stay behind: their defaults go through `generate`, so that whoever overrides it misses
    no call. A wrapper that can pass them on says so itself.
    """

    def __init__(self, inner: LanguageModel) -> None:
        self.inner = inner
        self.name, self.label, self.remote = inner.name, inner.label, inner.remote
        self.instructed, self.layers, self.exact_counts = inner.instructed, inner.layers, inner.exact_counts
        self.follows_schema, self.scores_replies = inner.follows_schema, inner.scores_replies
        self.context_length, self.concurrency = inner.context_length, inner.concurrency

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]  # probing may cost a call: only when asked
        return self.inner.capabilities

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    def generate(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Stream:
        return self.inner.generate(prompt, sampling)

    def check_schema(self, schema: dict[str, Any]) -> None:
        self.inner.check_schema(schema)

    def generate_many(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        return self.inner.generate_many(prompts, sampling)

    def count_tokens(self, text: str | Prompt) -> int:
        return self.inner.count_tokens(text)

    def prompt_tokens(self, prompt: Prompt, sampling: Sampling) -> int:
        return self.inner.prompt_tokens(prompt, sampling)

    def score(self, prompt: str | Prompt, continuation: str) -> Score:
        return self.inner.score(prompt, continuation)

    def score_many(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        return self.inner.score_many(pairs)

    def last_states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.inner.last_states(texts)

    def inspect(self, text: str, layers: Sequence[int], want: frozenset[Want]) -> Inspection:
        return self.inner.inspect(text, layers, want)

    def remark(self) -> str:
        return self.inner.remark()

    def held(self) -> Held | None:
        return self.inner.held()

    def attached(self, parts: Sequence[Technique]) -> AbstractContextManager[LanguageModel]:
        return self.inner.attached(parts)
