"""The local model as a request sees it: behind the engine's queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import ContextLengthError
from baywindow.models.base import Completion, Held, Inspection, LanguageModel, Prompt, Sampling, Score, Stream, Want
from baywindow.models.prefixes import BLOCK_TOKENS, Prefix
from baywindow.models.together import Interleaved, Together
from baywindow.models.wrapped import GREEDY, Wrapped
from baywindow.registry import Technique
from baywindow.server.engine import Engine, Inside, Row
from baywindow.server.prefixes.once import ReadOnce
from baywindow.server.wrapped.base import check

if TYPE_CHECKING:
    from baywindow.server.prefixes.store import KeptPrefix

LISTEN_S = 0.25  # between two looks at whether the client is still there
T = TypeVar("T")


class Queued(Wrapped):
    """The local model as one request sees it: every call waits for its turn in the engine."""

    def __init__(self, engine: Engine, tenant: str, cancelled: threading.Event, inside: Inside = ()) -> None:
        super().__init__(engine.model)
        self._engine, self._tenant, self._cancelled, self._inside = engine, tenant, cancelled, inside
        self._last: Row | None = None
        if inside:
            self.context_length = engine.reach(tenant, inside)

    def generate(self, prompt: Prompt | str, sampling: Sampling = GREEDY) -> Stream:
        """Also a plain text, which is continued as it stands. What a long prompt begins with is kept, or was."""
        return self._streams([self._row(prompt, sampling, again=True)])[0]

    def _streams(self, rows: Sequence[Row]) -> list[Stream]:
        self._engine.submit(self._tenant, *rows)
        self._last = rows[-1] if rows else None
        return [self._stream(row) for row in rows]

    def _stream(self, row: Row) -> Stream:
        ended: list[Completion] = []

        def pieces() -> Iterator[str]:
            try:
                while isinstance(said := self._next(row), str):
                    yield said
                ended.append(said)
            finally:
                if not ended:  # closed early: nobody reads on
                    row.cancelled.set()

        def finish(text: str) -> Completion:
            if ended:
                return replace(ended[0], text=text)
            return Completion(text=text, prompt_tokens=row.prompt_tokens, generated_tokens=self.count_tokens(text), finish="cancelled")

        return Stream(pieces(), finish)

    def generate_many(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        """Prompts that come in numbers hold parts of a text, seldom asked of twice: they are better read in batches than kept."""
        streams = self._streams([self._row(prompt, sampling, again=False) for prompt in prompts])
        return [stream.completion for stream in streams]

    def together(self, prompts: Sequence[Prompt | str], samplings: Sequence[Sampling], prefix: Prefix | None = None) -> Together:
        """All in the queue at once. A prompt of several replies is read once, also where nothing is kept, unless it is short."""
        once = None
        if len(prompts) > 1 and all(prompt == prompts[0] for prompt in prompts):
            ids = self.inner.beginning(prompts[0], prompts[0], samplings[0])
            once = ReadOnce(ids) if len(ids) >= BLOCK_TOKENS else None
        return Interleaved(self._streams([self._row(p, s, again=True, once=once) for p, s in zip(prompts, samplings, strict=True)]))

    def score(self, prompt: str | Prompt, continuation: str) -> Score:
        return self._run(lambda model: model.score(prompt, continuation))

    def score_many(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        return self._run(lambda model: model.score_many(pairs))

    def last_states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._run(lambda model: model.last_states(texts))

    def inspect(self, text: str, layers: Sequence[int], want: frozenset[Want]) -> Inspection:
        return self._run(lambda model: model.inspect(text, layers, want))

    def remark(self) -> str:
        return self._last.remark if self._last is not None else ""

    def held(self) -> Held | None:
        return self._last.held if self._last is not None else None

    @contextmanager
    def attached(self, parts: Sequence[Technique]) -> Iterator[LanguageModel]:
        """Nothing is attached here: the engine does it when this request's turn comes."""
        yield Queued(self._engine, self._tenant, self._cancelled, tuple(parts))

    def _row(self, prompt: Prompt | str, sampling: Sampling, *, again: bool, once: ReadOnce | None = None) -> Row:
        check(self._cancelled)
        if sampling.json_schema is not None:  # a schema that cannot be followed is this request's error, not that of a whole batch
            self.inner.check_schema(sampling.json_schema)
        tokens = self.count_tokens(prompt) if isinstance(prompt, str) else self.prompt_tokens(prompt, sampling)
        if (over := tokens + sampling.max_new_tokens - self.context_length) > 0:
            raise ContextLengthError(
                f"{tokens} prompt tokens and {sampling.max_new_tokens} new ones exceed the window of {self.name} "
                f"({self.context_length}) by {over} tokens",
                hint="ask for fewer new tokens, or name a recipe that reads in parts",
            )
        prefix: KeptPrefix | ReadOnce | None = None
        if again and (store := self._engine.prefixes) is not None:
            prefix = store.of(self.inner, self._tenant, self._inside, prompt, sampling)
        # A row can be dropped by itself (a stream that is closed early) or with its whole request.
        return Row(self._inside, prompt, sampling, tokens, _Either(self._cancelled), prefix or once)

    def _next(self, row: Row) -> str | Completion:
        while True:
            check(self._cancelled)
            try:
                said = row.said.get(timeout=LISTEN_S)
            except queue.Empty:
                continue
            if isinstance(said, BaseException):
                raise said
            return said

    def _run(self, act: Callable[[LanguageModel], T]) -> T:
        check(self._cancelled)
        return self._engine.run(self._tenant, self._inside, act)


class _Either(threading.Event):
    """Set by itself or with another event."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()
