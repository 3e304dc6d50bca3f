"""Reading a text once for many recipes, in the window engine.

All of the text but its last piece goes through the model without techniques and is held uncompressed. A recipe that acts after the
prompt takes a copy, reads the last piece by itself (so that its queries can vote) and compresses: what it then holds is what it would
hold had it read everything alone. Recipes that change positions, patterns or how keys are held, or that watch every piece, read alone.

Text and question are tokenised apart, as they must be where one is compressed before the other is known.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from baywindow.errors import ConfigError, ContextLengthError
from baywindow.models.base import Message, Sampling, Score, Stream
from baywindow.models.clock import Clock
from baywindow.models.reading import Asked, Reader, Reading
from baywindow.models.transformers import loop, scoring
from baywindow.models.transformers.choosing import Chooser
from baywindow.recipe import Recipe
from baywindow.registry import Technique
from baywindow.window import Runtime
from baywindow.window.engine.cache import WindowCache
from baywindow.window.engine.parts import Parts

if TYPE_CHECKING:
    from baywindow.models.transformers.model import TransformersModel

LAST_PIECE_TOKENS = 128  # read by each recipe itself; more than any technique's window of voting queries


@contextmanager
def read(model: TransformersModel, text: str) -> Iterator[Reader]:
    """`LanguageModel.read`; nothing is computed before a recipe asks."""
    if not text.strip():
        raise ConfigError("there is no text to read", hint="give the context as a non-empty string")
    yield _Reader(model, text)


class Spent(NamedTuple):
    """Seconds of the clock and of this process."""

    clock: float
    cpu: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.clock - other.clock, self.cpu - other.cpu)

    def __add__(self, other: Spent) -> Spent:  # type: ignore[override]
        return Spent(self.clock + other.clock, self.cpu + other.cpu)


class _Reader(Reader):
    def __init__(self, model: TransformersModel, text: str) -> None:
        self.model = model
        self.frame = Around(model)
        self.ids = self.frame.head(text)
        self._first: tuple[WindowCache, Spent] | None = None

    @contextmanager
    def through(self, parts: Sequence[Technique]) -> Iterator[Reading]:
        recipe = Recipe(tuple(parts))
        shares = self._shares(Parts.of(recipe))
        if shares and self._first is None:
            self._first = self._read_first()
        # The self-test compares with the stock model; once a recipe is enough.
        runtime = Runtime(self.model.model, recipe, self.model.tokenizer).attach(tested=recipe.hash in self.model.tested)
        try:
            self.model.tested.add(recipe.hash)
            reach = max(self.model.context_length, runtime.reach())
            if len(self.ids) >= reach:
                raise ContextLengthError(
                    f"the text has {len(self.ids)} tokens, the window of {self.model.name} {reach}",
                    hint="shorten it, or add a technique of window/positions",
                )
            yield self._closed(runtime, shares, reach)
        finally:
            runtime.detach()

    def _shares(self, parts: Parts) -> bool:
        """Whether this recipe holds nothing else than the model itself until the last piece."""
        alone = parts.position or parts.pattern or parts.prefill or parts.raw or any(part.watches for part in parts.caches)
        return not alone and parts.query_window <= LAST_PIECE_TOKENS < len(self.ids)

    def _read_first(self) -> tuple[WindowCache, Spent]:
        """All but the last piece, held as the model itself holds it; and the seconds it took."""
        runtime = Runtime(self.model.model, Recipe(), self.model.tokenizer).attach(tested="" in self.model.tested)
        try:
            self.model.tested.add("")
            started = Spent.now()
            cache = runtime.prefill(self._tensor(self.ids[:-LAST_PIECE_TOKENS]), close=False)
            return cache, Spent.now() - started
        finally:
            runtime.detach()

    def _closed(self, runtime: Runtime, shares: bool, reach: int) -> Reading:
        before, cache, ids = Spent(0.0, 0.0), None, self.ids
        if shares and self._first is not None:
            cache = copy.deepcopy(self._first[0])
            cache.runtime = runtime
            before, ids = self._first[1], self.ids[-LAST_PIECE_TOKENS:]
        started = Spent.now()
        cache = runtime.prefill(self._tensor(ids), cache)
        cache.asked_after = True
        return _Reading(self.model, self.frame, cache, Spent.now() - started + before, shares, reach)

    def _tensor(self, ids: list[int]) -> Tensor:
        return torch.tensor([ids], device=self.model.model.device)


class _Reading(Reading):
    def __init__(self, model: TransformersModel, frame: Around, cache: WindowCache, spent: Spent, shared: bool, reach: int) -> None:
        self._model, self._frame, self._cache, self._reach = model, frame, cache, reach
        self.tokens = cache.get_seq_length()
        self.seconds, self.cpu_seconds, self.shared = spent.clock, spent.cpu, shared
        self.nbytes = cache.nbytes()
        self.notes = tuple(cache.notes)

    def ask(self, question: str, begun: str = "") -> Asked:
        ids = self._frame.tail(question, begun)
        if self.tokens + len(ids) >= self._reach:
            raise ContextLengthError(f"text and question have {self.tokens + len(ids)} tokens, the window {self._reach}")
        cache = copy.deepcopy(self._cache)
        started = time.perf_counter()
        if len(ids) > 1:
            feed(self._model, cache, ids[:-1], keep=1)
        return _Asked(self._model, cache, ids, time.perf_counter() - started, self._reach)


class _Asked(Asked):
    """Everything but the question's last token has been fed; that one goes in with the reply."""

    def __init__(self, model: TransformersModel, cache: WindowCache, ids: list[int], seconds: float, reach: int) -> None:
        self._model, self._cache, self._last, self._reach = model, cache, ids[-1], reach
        self.tokens, self.seconds = len(ids), seconds

    def score(self, answer: str) -> Score:
        ids = self._model.data_ids(answer)
        if not ids:
            raise ConfigError("there is no answer to score", hint="give it as a non-empty string")
        logits = feed(self._model, copy.deepcopy(self._cache), [self._last, *ids[:-1]], keep=len(ids))
        logprobs, entropies = scoring.of_targets(logits[0], torch.tensor(ids, device=logits.device)).numpy()
        return Score(logprobs, tuple(self._model.tokenizer.convert_ids_to_tokens(ids)), entropies)

    def generate(self, sampling: Sampling) -> Stream:
        model, prompt_tokens = self._model, self._cache.get_seq_length() + 1
        if prompt_tokens + sampling.max_new_tokens > self._reach:
            raise ContextLengthError(
                f"{prompt_tokens} prompt tokens and {sampling.max_new_tokens} new ones exceed the window ({self._reach})",
                hint="ask for a shorter text or reply",
            )
        reply = model.new_reply(prompt_tokens, sampling)
        alive: Callable[[], bool] = Clock(sampling.seconds).running
        cache = copy.deepcopy(self._cache)
        feed = loop.Feed(rows=[[self._last]], cache=cache, alive=alive)

        def pieces() -> Iterator[str]:
            for (token,) in loop.step_tokens(model.model, feed, Chooser(sampling, 1), model.lock):
                if piece := reply.push(token):
                    yield piece
                if reply.done:
                    return
            if rest := reply.end("deadline"):
                yield rest

        return Stream(pieces(), reply.completion)


class Around:
    """What stands around a text and a question: the chat template, or nothing for a base model, which continues the plain text.

    Text and question are data: what looks like a control token in them is split into plain characters.
    """

    def __init__(self, model: TransformersModel) -> None:
        self._model = model
        self.before, self.after = "", ""
        if model.instructed:
            shown = model.pieces([Message("user", "x")])
            at = next(i for i, piece in enumerate(shown) if piece.data)
            self.before = "".join(piece.text for piece in shown[:at])
            self.after = "".join(piece.text for piece in shown[at + 1 :])

    def head(self, text: str) -> list[int]:
        start = self._model.template_ids(self.before) if self.before else self._model.text_ids("")
        return [*start, *self._model.data_ids(text)]

    def tail(self, question: str, begun: str) -> list[int]:
        """Question, assistant mark, and the reply's given beginning, which follows a base model's question after a blank."""
        if self._model.instructed:
            return [*self._model.data_ids(f"\n{question}"), *self._model.template_ids(self.after), *self._model.data_ids(begun.lstrip())]
        joined = begun if not begun or begun[0].isspace() else f" {begun}"
        return self._model.data_ids(f"\n{question}{joined or chr(10) + 'Answer:'}")


def feed(model: TransformersModel, cache: WindowCache, ids: Sequence[int], keep: int) -> Tensor:
    """Logits [1, keep, vocabulary] of the last ``keep`` of ``ids`` behind what the cache holds."""
    rows = torch.tensor([list(ids)], device=model.model.device)
    with model.lock:
        return loop.forward(model.model, rows, rows.new_ones(1, cache.get_seq_length() + len(ids)), cache, keep)
