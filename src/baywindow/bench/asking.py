"""A question through `ask`, as a person would put it, with what the calls cost watched from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from baywindow.budget import Usage
from baywindow.config import Settings
from baywindow.context.ask import ask
from baywindow.documents.base import Corpus
from baywindow.models.base import Completion, LanguageModel, Message, Prompt, Sampling, Stream
from baywindow.models.prefixes import Prefix
from baywindow.models.reading import Reader
from baywindow.models.together import Together
from baywindow.models.wrapped import GREEDY, Wrapped
from baywindow.recipe import Recipe


@dataclass
class Watched:
    """The calls of one question. ``last`` is the last prompt that was generated from, with what a base model was shown beside it."""

    last: list[Message] = field(default_factory=list)
    first_token_at: float | None = None  # of the last call, on time.perf_counter
    ended_at: float = 0.0
    generated_tokens: int = 0


class StoppedError(Exception):
    """The run that asked has ended, and nobody waits for this answer."""


class Watcher(Wrapped):
    """A model that behaves as another and notes the last prompt and when its reply began. It writes no more once ``stop`` is set."""

    def __init__(self, inner: LanguageModel, watched: Watched, stop: threading.Event | None = None) -> None:
        super().__init__(inner)
        self._watched, self._stop = watched, stop or threading.Event()

    def generate(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Stream:
        self._check()
        stream = self.inner.generate(prompt, sampling)
        self._watched.last, self._watched.first_token_at = shown(self.inner, prompt, sampling), None

        def pieces() -> Iterator[str]:
            for piece in stream:
                self._check()
                self._watched.first_token_at = self._watched.first_token_at or time.perf_counter()
                yield piece

        def finish(text: str) -> Completion:
            done = stream.completion
            self._watched.ended_at, self._watched.generated_tokens = time.perf_counter(), done.generated_tokens
            return done

        return Stream(pieces(), finish)

    def generate_many(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        self._check()
        done = self.inner.generate_many(prompts, sampling)
        if prompts:
            self._watched.last, self._watched.first_token_at = shown(self.inner, prompts[-1], sampling), None
        return done

    def _check(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    @property
    def state_kind(self) -> str:
        return self.inner.state_kind

    def together(self, prompts: Sequence[Prompt | str], samplings: Sequence[Sampling], prefix: Prefix | None = None) -> Together:
        return self.inner.together(prompts, samplings, prefix)

    def beginning(self, prompt: Prompt | str, stable: Prompt | str, sampling: Sampling) -> tuple[int, ...]:
        return self.inner.beginning(prompt, stable, sampling)

    def batches(self, lengths: Sequence[int], new_tokens: int) -> list[list[int]]:
        return self.inner.batches(lengths, new_tokens)

    def read(self, text: str) -> AbstractContextManager[Reader]:
        return self.inner.read(text)


@dataclass(frozen=True, kw_only=True)
class Told:
    """An answer that `ask` gave, and what it took."""

    text: str
    usage: Usage
    seconds: float
    first_token_s: float | None
    tokens_per_s: float | None
    prompt: tuple[Message, ...]  # of the last call
    notes: tuple[str, ...]


def told(
    question: str,
    corpus: Corpus,
    recipe: Recipe,
    model: LanguageModel,
    settings: Settings,
    budget: str = "",
    stop: threading.Event | None = None,
) -> Told:
    """Ask through the outside half of a recipe, within ``budget``. The inside half, if there is one, is in place in ``model`` already.
    Raises StoppedError at the next call or piece once ``stop`` is set."""
    watched = Watched()
    watching = Watcher(model, watched, stop)
    started = time.perf_counter()
    answer = ask(question, corpus, recipe=Recipe((), recipe.outside), model=watching, budget=budget or None, settings=settings)
    seconds = time.perf_counter() - started
    first = watched.first_token_at
    rate = None
    if first is not None and watched.generated_tokens > 1 and watched.ended_at > first:
        rate = (watched.generated_tokens - 1) / (watched.ended_at - first)
    return Told(
        text=answer.text,
        usage=answer.usage,
        seconds=seconds,
        first_token_s=None if first is None else first - started,
        tokens_per_s=rate,
        prompt=tuple(watched.last),
        notes=answer.trace.notes,
    )


def shown(model: LanguageModel, prompt: Prompt, sampling: Sampling) -> list[Message]:
    """The prompt as the model read it: a base model is shown as many of the examples as its window leaves room for."""
    if model.instructed or not sampling.examples:
        return list(prompt)
    first = next((i for i, m in enumerate(prompt) if m.role == "user"), len(prompt))
    for count in range(len(sampling.examples), -1, -1):
        pairs = [Message(role, text) for pair in sampling.examples[:count] for role, text in zip(("user", "assistant"), pair, strict=True)]  # type: ignore[arg-type]
        whole = [*prompt[:first], *pairs, *prompt[first:]]
        if model.count_tokens(whole) + sampling.max_new_tokens <= model.context_length:
            return whole
    return list(prompt)
