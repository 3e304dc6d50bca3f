"""`TransformersModel`: a language model on this machine, through transformers.

``model`` and ``tokenizer`` are public: the window engine works on them. ``new_cache`` makes the key-value cache of every generation and
``cache_phase`` tells it where the prompt ends; `attached` gives a view of the model in which both are the engine's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import ConfigError, ContextLengthError, MissingExtraError, ModelError
from baywindow.models.base import Completion, Held, Inspection, LanguageModel, Prompt, Sampling, Score, Stream, Want
from baywindow.models.clock import Clock
from baywindow.models.gguf import Progress
from baywindow.models.plain import plain_stops, turns_of
from baywindow.models.prefixes import BLOCK_TOKENS, LEAST_TOKENS, Prefix
from baywindow.models.reading import Reader
from baywindow.models.rendering import Piece, Renderer
from baywindow.models.stable import stable_part
from baywindow.models.together import Together
from baywindow.registry import Technique

try:
    from baywindow.models.transformers import loading, loop, many, peeking, scoring
    from baywindow.models.transformers.attached import attached, prepared
    from baywindow.models.transformers.batching import batches
    from baywindow.models.transformers.choosing import Chooser
    from baywindow.models.transformers.guides import Guides
    from baywindow.models.transformers.prefixes import InsideStates, PlainStates
    from baywindow.models.transformers.reading import read
    from baywindow.models.transformers.reply import Reply
    from baywindow.models.transformers.scores import AsSaid, scores_of
    from baywindow.models.transformers.together import Batch
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] in {"torch", "transformers", "psutil", "llguidance"}:
        raise MissingExtraError.of("what runs local models (torch, transformers)", "local") from None
    raise

GREEDY = Sampling()


class TransformersModel(LanguageModel):
    """A hub id, a local folder, or a .gguf file (converted once into the cache).

    ``context`` lowers the window below what the model's configuration says; it cannot raise it. Thread-safe: forwards of several
    streams alternate. Raises ModelError if it cannot be loaded, MissingExtraError without the ``local`` extra.
    """

    follows_schema = True
    scores_replies = True

    def __init__(
        self,
        where: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        context: int | None = None,
        name: str = "",
        progress: Progress | None = None,
    ) -> None:
        loaded = loading.load(where, device, dtype, progress)
        self.model: Any = loaded.model
        self.tokenizer: Any = loaded.tokenizer
        self.name = name or where
        self._fingerprint = loaded.fingerprint
        self._renderer = Renderer(self.tokenizer)
        self.lock = threading.RLock()  # held during each forward
        self.tested: set[str] = set()  # hashes of recipes that passed the engine's self-test on this model
        self.new_cache: Callable[[], Any] = lambda: loop.new_cache(self.model)
        self.states: PlainStates | InsideStates = PlainStates(self.model)
        self.seen_inside: Callable[[], str] = lambda: ""
        self.held_inside: Callable[[], Held | None] = lambda: None
        self.cache_phase: Callable[[Any, str], None] = lambda cache, phase: None
        self.layers = len(self.model.get_decoder().layers)
        self.attached_to = False  # whether a recipe's inside half is in place
        self.context_length = _window(self.model, self.name, context)
        self.instructed = self._renderer.has_template
        self.label = "" if self.instructed else "base model"
        tools = {"tools"} if self._renderer.takes_tools else set()
        self.capabilities = frozenset({"text", "logprobs", "weights", "kv"} | tools)
        self._eos = self._end_tokens()
        self._guides = Guides(self.tokenizer, self._eos)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def state_kind(self) -> str:
        return f"{self._fingerprint} {self.model.dtype} {self.model.device.type}"

    def count_tokens(self, text: str | Prompt) -> int:
        """Exact. A plain text is counted without a BOS, a prompt with template and BOS (without examples)."""
        return self._renderer.count(text) if isinstance(text, str) else len(self._renderer.ids(text))

    def text_ids(self, text: str) -> list[int]:
        """Ids of a plain text, with the BOS where the model wants one."""
        return [*self._renderer.start(), *self._renderer.data_ids(text)]

    def data_ids(self, text: str) -> list[int]:
        """Ids of text that is data, without a BOS; what looks like a control token is split into plain characters."""
        return self._renderer.data_ids(text)

    def template_ids(self, text: str) -> list[int]:
        """Ids of template text, in which control tokens are meant."""
        return self._renderer.template_ids(text)

    def pieces(self, prompt: Prompt) -> list[Piece]:
        """Template and contents of a prompt, in order."""
        return self._renderer.pieces(prompt)

    def new_reply(self, prompt_tokens: int, sampling: Sampling) -> Reply:
        """One reply, to be filled token by token; it ends at what ends a turn of this model."""
        return self._reply(prompt_tokens, sampling, ())

    def prompt_tokens(self, prompt: Prompt, sampling: Sampling) -> int:
        return len(self._rendered(prompt, sampling)[0])

    def generate(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Stream:
        ids, stops = self._prepared(prompt, sampling)
        reply = self._reply(len(ids), sampling, stops)
        clock = Clock(sampling.seconds)
        chooser = self.chooser(sampling)
        feed = self._feed([ids], clock.running, self.border(prompt, ids, sampling))

        def pieces() -> Iterator[str]:
            if sampling.max_new_tokens > 0:
                for (token,) in loop.step_tokens(self.model, feed, chooser, self.lock):
                    if piece := reply.push(token):
                        yield piece
                    if reply.done:
                        return
            if rest := reply.end("deadline" if sampling.max_new_tokens > 0 else "length"):
                yield rest

        return Stream(pieces(), lambda text: self.scored(reply.completion(text), chooser))

    def generate_many(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        """In batches, one deadline for all; prompts that it leaves no time for come back empty with finish ``deadline``."""
        prepared = [self._prepared(prompt, sampling) for prompt in prompts]
        clock = Clock(sampling.seconds)
        found: dict[int, Completion] = {}
        for group in batches([len(ids) for ids, _ in prepared], sampling.max_new_tokens, self.model):
            if clock.running():
                border = self.border(prompts[group[0]], prepared[group[0]][0], sampling) if len(group) == 1 else 0
                found.update(zip(group, self._batch([prepared[i] for i in group], sampling, clock, border), strict=True))
        unread = Completion(text="", prompt_tokens=0, generated_tokens=0, finish="deadline")
        return [found.get(i, unread) for i in range(len(prompts))]

    def together(self, prompts: Sequence[Prompt | str], samplings: Sequence[Sampling], prefix: Prefix | None = None) -> Together:
        """One left-padded batch. A plain text is continued as it stands, with a BOS where the model wants one."""
        batch = Batch(self)
        batch.join(prompts, samplings, prefix)
        return batch

    def begun(self, prompt: Prompt | str, sampling: Sampling) -> tuple[list[int], Reply]:
        """Token ids of a prompt and the reply to it, to be filled token by token. ContextLengthError if they exceed the window."""
        ids, stops = self._ids_of(prompt, sampling)
        return ids, self._reply(len(ids), sampling, stops)

    def beginning(self, prompt: Prompt | str, stable: Prompt | str, sampling: Sampling) -> tuple[int, ...]:
        ids = self._ids_of(prompt, sampling)[0]
        return tuple(ids[: _alike(ids, self._ids_of(stable, sampling)[0])])

    def border(self, prompt: Prompt | str, ids: Sequence[int], sampling: Sampling) -> int:
        """After how many of a prompt's ids a piece ends when it is read by itself: where one ends too if its beginning is kept, so that
        both replies are the same. 0: nowhere. On devices with longer pieces the two differ by rounding anyway."""
        if self.attached_to or self.model.device.type != "cpu" or len(ids) <= LEAST_TOKENS:
            return 0
        alike = _alike(ids, self._ids_of(stable_part(prompt), sampling)[0])
        return alike if alike >= LEAST_TOKENS else 0

    def _ids_of(self, prompt: Prompt | str, sampling: Sampling) -> tuple[list[int], tuple[str, ...]]:
        """Token ids and stop strings of a chat, or of a text to be continued."""
        return (self._plain(prompt, sampling), ()) if isinstance(prompt, str) else self._prepared(prompt, sampling)

    def batches(self, lengths: Sequence[int], new_tokens: int) -> list[list[int]]:
        return batches(lengths, new_tokens, self.model)

    def score(self, prompt: str | Prompt, continuation: str) -> Score:
        """A text is tokenised together with its continuation; a token that spans the border belongs to the continuation."""
        if isinstance(prompt, str):
            ids, first, offsets = self._joined(prompt, continuation)
        else:
            before = self._renderer.ids(prompt)
            after, offsets = self._renderer.data_offsets(continuation)
            ids, first = [*before, *after], len(before)
        self._check_room(len(ids), 0)
        logprobs, entropies = scoring.continuation_scores(self.model, ids, first, self.new_cache(), self.lock)
        return Score(logprobs, tuple(self.tokenizer.convert_ids_to_tokens(ids[first:])), entropies, tuple(offsets))

    def score_many(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """In batches; what a batch's prompts begin with is read once. One by one while something is attached to the model."""
        if self.attached_to:
            return [self.score(prompt, continuation) for prompt, continuation in pairs]
        joined = [self._joined(prompt, continuation) for prompt, continuation in pairs]
        for ids, _, _ in joined:
            self._check_room(len(ids), 0)
        found = many.scores_of(self.model, [many.Row(ids, first) for ids, first, _ in joined], self.lock)
        return [
            Score(logprobs, tuple(self.tokenizer.convert_ids_to_tokens(ids[first:])), None, tuple(offsets))
            for logprobs, (ids, first, offsets) in zip(found, joined, strict=True)
        ]

    def last_states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [self.text_ids(text) or [self.tokenizer.eos_token_id] for text in texts]
        for ids in rows:
            self._check_room(len(ids), 0)
        return many.last_states(self.model, rows, self.lock)

    def _joined(self, prompt: str, continuation: str) -> tuple[list[int], int, list[tuple[int, int]]]:
        """Ids of a text and what follows it, where the latter begins, and the characters of its tokens (a token may span the border)."""
        start = self._renderer.start()
        ids, offsets = self._renderer.data_offsets(prompt + continuation)
        count = sum(end <= len(prompt) for _, end in offsets)
        spans = [(max(0, a - len(prompt)), b - len(prompt)) for a, b in offsets[count:]]
        if not start and count == 0 and ids:  # nothing stands before the first token: condition it on the end of another text, as is usual
            start = [self.tokenizer.eos_token_id]
        return [*start, *ids], len(start) + count, spans

    def inspect(self, text: str, layers: Sequence[int], want: frozenset[Want]) -> Inspection:
        """Layers count blocks from 0 (negative: from the end); ``hidden`` is what leaves the block. A BOS has offsets (0, 0)."""
        ids, offsets = self._renderer.data_offsets(text)
        start = self._renderer.start()
        self._check_room(len(start) + len(ids), 0)
        if not start + ids:
            return Inspection(())
        if "scores" in want:
            return self._with_scores([*start, *ids], (*[(0, 0)] * len(start), *offsets), layers, want)
        with self.lock:
            found = scoring.insides(self.model, [*start, *ids], layers, want)
        return Inspection((*[(0, 0)] * len(start), *offsets), attention=found["attention"], hidden=found["hidden"])

    def _with_scores(
        self, ids: list[int], offsets: tuple[tuple[int, int], ...], layers: Sequence[int], want: frozenset[Want]
    ) -> Inspection:
        if want != {"scores"}:
            raise ConfigError("scores are read in a forward of their own, which ends early", hint="ask for the rest in another call")
        numbers = {layer: scoring.layer_number(layer, len(self.model.get_decoder().layers)) for layer in layers}
        with self.lock:
            found = peeking.last_scores(self.model, ids, list(numbers.values()))
        return Inspection(offsets, scores={layer: found[number] for layer, number in numbers.items()})

    def remark(self) -> str:
        return self.seen_inside()

    def held(self) -> Held | None:
        return self.held_inside()

    def attached(self, parts: Sequence[Technique]) -> AbstractContextManager[LanguageModel]:
        return attached(self, parts)

    def read(self, text: str) -> AbstractContextManager[Reader]:
        return read(self, text)

    def prepare(self, part: Technique, text: str) -> Path:
        return prepared(self, part, text)

    def close(self) -> None:
        self.model = None

    def _prepared(self, prompt: Prompt, sampling: Sampling) -> tuple[list[int], tuple[str, ...]]:
        """Token ids and the stop strings of the plain form. ContextLengthError if they and the new tokens exceed the window."""
        if self.model is None:
            raise ModelError(f"{self.name} was closed", hint="load it again")
        ids, stops = self._rendered(prompt, sampling)
        self._check_room(len(ids), sampling.max_new_tokens)
        return ids, stops

    def _rendered(self, prompt: Prompt, sampling: Sampling) -> tuple[list[int], tuple[str, ...]]:
        """The same, whatever their number. A base model is shown as many examples as the window leaves room for."""
        if self._renderer.has_template:
            return self._renderer.ids(prompt, tools=sampling.tools), ()
        for count in range(len(sampling.examples), -1, -1):
            ids = self._renderer.ids(prompt, sampling.examples[:count], sampling.tools)
            if len(ids) + sampling.max_new_tokens <= self.context_length:
                break
        return ids, plain_stops((*turns_of(prompt), *sampling.examples))

    def _plain(self, text: str, sampling: Sampling) -> list[int]:
        ids = self.text_ids(text) or [self.tokenizer.eos_token_id]  # nothing stands before: the end of another text does
        self._check_room(len(ids), sampling.max_new_tokens)
        return ids

    def _check_room(self, prompt_tokens: int, new_tokens: int) -> None:
        if (over := prompt_tokens + new_tokens - self.context_length) > 0:
            raise ContextLengthError(
                f"{prompt_tokens} prompt tokens and {new_tokens} new ones exceed the window of {self.name} "
                f"({self.context_length}) by {over} tokens",
                hint="choose a recipe that reads in parts, e.g. hybrid > rag or chain_of_agents",
            )

    def _batch(
        self, prepared: Sequence[tuple[list[int], tuple[str, ...]]], sampling: Sampling, clock: Clock, border: int
    ) -> list[Completion]:
        replies = [self._reply(len(ids), sampling, stops) for ids, stops in prepared]
        texts = [""] * len(replies)
        chooser = self.chooser(sampling, len(replies))
        if sampling.max_new_tokens > 0:
            feed = self._feed([ids for ids, _ in prepared], clock.running, border)
            for tokens in loop.step_tokens(self.model, feed, chooser, self.lock):
                for row, (reply, token) in enumerate(zip(replies, tokens, strict=True)):
                    texts[row] += "" if reply.done else reply.push(token)
                if all(reply.done for reply in replies):
                    break
        for row, reply in enumerate(replies):
            texts[row] += "" if reply.done else reply.end("deadline" if sampling.max_new_tokens > 0 else "length")
        done = [reply.completion(text) for reply, text in zip(replies, texts, strict=True)]
        return [self.scored(one, chooser, row) for row, one in enumerate(done)]

    def check_schema(self, schema: dict[str, Any]) -> None:
        self._guides.of(schema)

    def chooser(self, sampling: Sampling, rows: int = 1) -> Chooser:
        """What chooses tokens for so many rows. ConfigError for a schema that cannot be followed."""
        guides = [self._guides.of(sampling.json_schema) for _ in range(rows)] if sampling.json_schema is not None else ()
        return Chooser(sampling, rows, guides)

    def scored(self, done: Completion, chooser: Chooser, row: int = 0) -> Completion:
        """With the scores of its tokens, where they were asked for."""
        return replace(done, scores=scores_of(chooser.picks[row], self._decode, done.text)) if chooser.picks else done

    def as_said(self, chooser: Chooser) -> AsSaid | None:
        """What gives the pieces of its only row their scores; None where none were asked for."""
        return AsSaid(chooser.picks[0], self._decode) if chooser.picks else None

    def _feed(self, rows: Sequence[Sequence[int]], alive: Callable[[], bool], border: int) -> loop.Feed:
        pad = self.tokenizer.pad_token_id
        return loop.Feed(
            rows=rows,
            cache=self.new_cache(),
            alive=alive,
            pad=0 if pad is None else int(pad),
            border=border,
            phase=self.cache_phase,
        )

    def _reply(self, prompt_tokens: int, sampling: Sampling, stops: Sequence[str]) -> Reply:
        return Reply(self._decode, sampling, prompt_tokens, self._eos, plain_stops=stops)

    def _decode(self, ids: Sequence[int]) -> str:
        with self._renderer.lock:
            text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _end_tokens(self) -> frozenset[int]:
        """Every token that ends a turn: the configuration's, the tokenizer's, and what the template puts after a reply."""
        listed = self.model.generation_config.eos_token_id
        several = listed if isinstance(listed, list) else [listed]
        return frozenset(i for i in (*several, self.tokenizer.eos_token_id, self._renderer.turn_end()) if i is not None)


def _alike(ids: Sequence[int], stable: Sequence[int]) -> int:
    """How many tokens both begin with. No single token stands behind them or behind their whole blocks: it would be read as a step of
    decoding."""
    alike = next((i for i, (a, b) in enumerate(zip(ids, stable, strict=False)) if a != b), min(len(ids), len(stable)))
    alike = max(0, min(alike, len(ids) - 2))
    return alike - (alike % BLOCK_TOKENS == 1)


def _window(model: Any, name: str, context: int | None) -> int:
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if longest is None and context is None:
        raise ModelError(f"the configuration of {name} does not say how long its window is", hint="set it with --context N")
    return min(int(n) for n in (longest, context) if n is not None)
