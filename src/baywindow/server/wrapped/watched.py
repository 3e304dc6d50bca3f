"""A model elsewhere as a request sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from baywindow.models.base import Completion, LanguageModel, Prompt, Sampling, Stream
from baywindow.models.wrapped import GREEDY, Wrapped
from baywindow.server.wrapped.base import Cancelled, check


class Watched(Wrapped):
    """One that sees to many calls by itself; a cancelled request hangs up between two pieces."""

    def __init__(self, inner: LanguageModel, cancelled: threading.Event) -> None:
        super().__init__(inner)
        self._cancelled = cancelled

    def generate(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Stream:
        check(self._cancelled)
        stream = self.inner.generate(prompt, sampling)

        def pieces() -> Iterator[str]:
            for piece in stream:
                if self._cancelled.is_set():
                    stream.close()
                    raise Cancelled
                yield piece

        return Stream(pieces(), lambda text: stream.completion)

    def generate_many(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        check(self._cancelled)
        return self.inner.generate_many(prompts, sampling)
