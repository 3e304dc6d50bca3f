"""Models as a request sees them: in the queue of the one local model (`Queued`), cancelled with the request, and speaking under the
application's own instructions (`Framed`)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import ContextLengthError
from baywindow.models.base import Completion, Held, Inspection, LanguageModel, Message, Prompt, Sampling, Score, Stream, Want
from baywindow.models.prefixes import BLOCK_TOKENS, Prefix
from baywindow.models.together import Interleaved, Together
from baywindow.registry import Technique
from baywindow.server.engine import Engine, Inside, Row
from baywindow.server.prefixes.once import ReadOnce

if TYPE_CHECKING:
    from baywindow.server.prefixes.store import KeptPrefix

GREEDY = Sampling()
LISTEN_S = 0.25  # between two looks at whether the client is still there
T = TypeVar("T")


class Cancelled(Exception):  # noqa: N818 - an event, not a fault
    """The client is gone, or the server stops: what was under way for it ends."""


class Wrapped(LanguageModel):
    """Another model, through and through; what differs is overridden."""

    def __init__(self, inner: LanguageModel) -> None:
        self.inner = inner
        self.name, self.label, self.remote = inner.name, inner.label, inner.remote
        self.instructed, self.layers, self.exact_counts = inner.instructed, inner.layers, inner.exact_counts
        self.follows_schema, self.scores_replies = inner.follows_schema, inner.scores_replies
        self.context_length = inner.context_length

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


class Watched(Wrapped):
    """A model elsewhere, which sees to many calls by itself; a cancelled request hangs up between two pieces."""

    def __init__(self, inner: LanguageModel, cancelled: threading.Event) -> None:
        super().__init__(inner)
        self._cancelled = cancelled

    def generate(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Stream:
        _check(self._cancelled)
        stream = self.inner.generate(prompt, sampling)

        def pieces() -> Iterator[str]:
            for piece in stream:
                if self._cancelled.is_set():
                    stream.close()
                    raise Cancelled
                yield piece

        return Stream(pieces(), lambda text: stream.completion)

    def generate_many(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        _check(self._cancelled)
        return self.inner.generate_many(prompts, sampling)


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
        _check(self._cancelled)
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
            _check(self._cancelled)
            try:
                said = row.said.get(timeout=LISTEN_S)
            except queue.Empty:
                continue
            if isinstance(said, BaseException):
                raise said
            return said

    def _run(self, act: Callable[[LanguageModel], T]) -> T:
        _check(self._cancelled)
        return self._engine.run(self._tenant, self._inside, act)


class _Either(threading.Event):
    """Set by itself or with another event."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()


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


def _check(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled
