"""A model that speaks under the application's own instructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from baywindow.models.base import Completion, LanguageModel, Message, Prompt, Sampling, Stream
from baywindow.models.wrapped import GREEDY, Wrapped
from baywindow.registry import Technique


class Framed(Wrapped):
    """Every prompt stands under the application's instructions, and every call samples as the request says."""

    def __init__(self, inner: LanguageModel, instructions: str, sampling: Sampling) -> None:
        super().__init__(inner)
        self._instructions, self._sampling = instructions, sampling
        self.last: Completion | None = None  # of the calls that stream, the answer's being the last
        self.cached_tokens = 0  # of all calls that stream

    def generate(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Stream:
        stream = self.inner.generate(self._framed(prompt), self._sampled(sampling))

        def finish(text: str) -> Completion:
            self.last = stream.completion
            self.cached_tokens += self.last.cached_tokens
            return self.last

        return Stream(iter(stream), finish)

    def generate_many(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        return self.inner.generate_many([self._framed(prompt) for prompt in prompts], self._sampled(sampling))

    def count_tokens(self, text: str | Prompt) -> int:
        return self.inner.count_tokens(text if isinstance(text, str) else self._framed(text))

    def prompt_tokens(self, prompt: Prompt, sampling: Sampling) -> int:
        return self.inner.prompt_tokens(self._framed(prompt), sampling)

    @contextmanager
    def attached(self, parts: Sequence[Technique]) -> Iterator[LanguageModel]:
        with self.inner.attached(parts) as view:
            framed = Framed(view, self._instructions, self._sampling)
            yield framed
            self.last = framed.last
            self.cached_tokens += framed.cached_tokens

    def _framed(self, prompt: Prompt) -> Prompt:
        if not self._instructions or not prompt:
            return prompt
        first, *rest = prompt
        if first.role == "system":
            return (Message("system", f"{self._instructions}\n\n{first.content}"), *rest)
        return (Message("system", self._instructions), *prompt)

    def _sampled(self, sampling: Sampling) -> Sampling:
        own = self._sampling
        return replace(sampling, temperature=own.temperature, top_p=own.top_p, seed=own.seed, stop=(*sampling.stop, *own.stop))
