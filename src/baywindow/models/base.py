"""The one interface behind which every language model and every embedder stands.

It is synchronous and small. Text is a list of `Message`; a model with a chat template renders it that way, a base model as a
few-shot plain form. Message content is data: a control token written inside it (``<|im_end|>``) never reaches the tokenizer as
a control token. Tokens are always this model's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import CapabilityError
from baywindow.models.calling import Call
from baywindow.registry import Technique

if TYPE_CHECKING:
    from baywindow.models.prefixes import Prefix
    from baywindow.models.reading import Reader
    from baywindow.models.together import Together

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "deadline", "cancelled"]
Want = Literal["attention", "hidden", "scores"]


@dataclass(frozen=True)
class Message:
    """``calls`` are an assistant's; a tool's message ``answers`` one of them."""

    role: Role
    content: str
    calls: tuple[Call, ...] = ()
    answers: Call | None = None


Prompt = Sequence[Message]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to generate. Greedy unless ``temperature`` is above 0; ``seconds`` ends generation early (finish ``deadline``)."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    seconds: float = float("inf")
    json_schema: dict[str, Any] | None = (
        None  # held to by a model that `follows_schema`, asked for where an endpoint takes it, else ignored
    )
    tools: tuple[dict[str, Any], ...] = ()  # that the reply may call, in OpenAI's form; for models that have ``tools``
    logprobs: int | None = None  # score the reply's tokens, and so many alternatives of each; for local models
    examples: tuple[tuple[str, str], ...] = ()  # (user, assistant) pairs, shown to base models only: they need the form


@dataclass(frozen=True)
class TokenScore:
    """A token of a reply: its text, its natural log-probability before any sampling setting, and the likeliest ones in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class ScoredText(str):
    """A piece of a reply, with the scores of the tokens that end in it: pieces are such where scores were asked for."""

    __slots__ = ("scores",)
    scores: tuple[TokenScore, ...]

    def __new__(cls, text: str, scores: Iterable[TokenScore]) -> ScoredText:
        made = super().__new__(cls, text)
        made.scores = tuple(scores)
        return made


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a call gave and used. ``estimated`` marks counts that no tokenizer and no endpoint confirmed; ``cached_tokens`` of the prompt
    were kept from an earlier call; ``scores`` are there where they were asked for."""

    text: str
    prompt_tokens: int
    generated_tokens: int
    finish: Finish
    estimated: bool = False
    cached_tokens: int = 0
    scores: tuple[TokenScore, ...] = ()


class Stream:
    """Iterate for pieces of text as they come; afterwards `completion` says what was used. Closing it early stops generation."""

    def __init__(self, pieces: Iterator[str], finish: Callable[[str], Completion]) -> None:
        self._pieces = pieces
        self._finish = finish
        self._text: list[str] = []
        self._completion: Completion | None = None

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            self._text.append(piece)
            yield piece

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()

    @property
    def completion(self) -> Completion:
        """Reads the rest of the stream first."""
        if self._completion is None:
            for _ in self:
                pass
            self._completion = self._finish("".join(self._text))
        return self._completion


@dataclass(frozen=True)
class Score:
    """Log-probabilities (natural) of a continuation's tokens given a prompt; ``logprobs`` has shape (token,).

    ``entropies``, of the same shape and in nats, tell how open each place was before its token came; None where a model does not say.
    """

    logprobs: NDArray[np.float32]
    tokens: tuple[str, ...] = ()
    entropies: NDArray[np.float32] | None = None
    offsets: tuple[tuple[int, int], ...] = ()  # characters of each token in the continuation; empty where a model does not say

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood per token, in nats."""
        return -float(np.mean(self.logprobs))


@dataclass(frozen=True)
class Inspection:
    """What `inspect` saw. ``attention[layer]`` is (head, query token, key token); ``hidden[layer]`` is (token, dim).

    ``scores[layer]`` is (head, key token): the last token's query times every key, not scaled, without softmax; layers above the
    deepest one asked for do not run. ``offsets[i]`` is the character range of token i in the text.
    """

    offsets: tuple[tuple[int, int], ...]
    attention: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    hidden: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    scores: dict[int, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """What the inside of a model still holds of the prompt it read last: ``text`` is that prompt, ``offsets`` [token, 2] are the characters
    of its tokens, and ``share`` [token] says which part of the key/value heads, of all layers with full attention, holds each."""

    text: str
    offsets: NDArray[np.int64]
    share: NDArray[np.float32]


class LanguageModel(ABC):
    """A language model. ``capabilities`` are probed, never guessed, in DESIGN's words (text, logprobs, weights, kv, tools)."""

    name: str
    label: str = ""  # what a person should know of it, e.g. "small base model"
    remote: str = ""  # where text is sent, empty for a local model
    instructed: bool = True  # False: a base model, which continues text and cannot be told to do something else
    capabilities: frozenset[str] = frozenset({"text"})
    context_length: int  # tokens, prompt plus generated
    layers: int = 0  # blocks, where its insides are open
    exact_counts: bool = True  # False: `count_tokens` is an estimate
    follows_schema: bool = False  # True: no reply leaves `Sampling.json_schema`
    scores_replies: bool = False  # True: `Sampling.logprobs` is obeyed
    concurrency: int = 1  # calls from different threads that it takes at the same time and is faster for

    @abstractmethod
    def generate(self, prompt: Prompt, sampling: Sampling = Sampling()) -> Stream:
        """Generate one reply. Raises ContextLengthError if the prompt and ``max_new_tokens`` do not fit the window."""

    @abstractmethod
    def count_tokens(self, text: str | Prompt) -> int:
        """Tokens of a plain text, or of a prompt with everything its template adds."""

    def prompt_tokens(self, prompt: Prompt, sampling: Sampling) -> int:
        """What `generate` would read: `count_tokens`, and for a base model also the examples that it is shown."""
        return self.count_tokens(prompt)

    @property
    def fingerprint(self) -> str:
        """What results and caches are bound to: the hub commit, or a SHA-256 of the weights; the name where neither can be had."""
        return self.name

    @property
    def state_kind(self) -> str:
        """What kept states (`models.prefixes`) are bound to besides the recipe inside: the weights, and how they are computed with."""
        return self.fingerprint

    def check_schema(self, schema: dict[str, Any]) -> None:  # noqa: B027 - most follow none
        """Raise ConfigError where this model follows schemas and cannot follow this one."""

    def generate_many(self, prompts: Sequence[Prompt], sampling: Sampling = Sampling()) -> list[Completion]:
        """One reply a prompt, in order. Local models run batches, remote ones threads; this default runs one after the other."""
        return [self.generate(prompt, sampling).completion for prompt in prompts]

    def together(self, prompts: Sequence[Prompt | str], samplings: Sequence[Sampling], prefix: Prefix | None = None) -> Together:
        """Replies that grow together, each with its own sampling and reader. A plain text is continued, where a model can, without a
        template. Local models run one batch of all; this default takes a piece of each in turn. ``prefix`` is what all prompts begin
        with (see `beginning`), for models that keep it."""
        from baywindow.models.together import Interleaved

        return Interleaved.of(self, prompts, samplings)

    def beginning(self, prompt: Prompt | str, stable: Prompt | str, sampling: Sampling) -> tuple[int, ...]:
        """Ids with which both texts begin, as a beginning to be kept (`models.prefixes`); something of ``prompt`` is left behind them.
        Empty for models that keep no such thing, as this default."""
        return ()

    def batches(self, lengths: Sequence[int], new_tokens: int) -> list[list[int]]:
        """Which prompts of these lengths, in tokens, are best answered together: groups of indices. This default knows no batches."""
        return [[index] for index in range(len(lengths))]

    def score(self, prompt: str | Prompt, continuation: str) -> Score:
        """Log-probability of each token of ``continuation`` after ``prompt``. Raises CapabilityError without ``logprobs``."""
        raise CapabilityError(f"{self.name} gives no log-probabilities", hint="use a local model")

    def score_many(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """`score` of many (prompt, continuation) texts, in order, without entropies where that is faster. Local models run batches."""
        return [self.score(prompt, continuation) for prompt, continuation in pairs]

    def last_states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What stands behind the last block and the final norm at the last token of each text: (text, dim). Needs ``weights``."""
        raise CapabilityError(f"{self.name} does not show its insides", hint="use a local open-weights model")

    def inspect(self, text: str, layers: Sequence[int], want: frozenset[Want]) -> Inspection:
        """Attention weights, the last token's attention scores, or hidden states of some layers. CapabilityError without ``weights``."""
        raise CapabilityError(f"{self.name} does not show its insides", hint="use a local open-weights model")

    def remark(self) -> str:
        """One line that a person should see on what the last generation did inside the model; empty if there is nothing to say."""
        return ""

    def held(self) -> Held | None:
        """What is left inside the model of the last generation's prompt; None where nothing was dropped."""
        return None

    def attached(self, parts: Sequence[Technique]) -> AbstractContextManager[LanguageModel]:
        """This model with a recipe's inside half in place, for as long as the context lasts. Needs ``weights``."""
        raise CapabilityError(
            f"{parts[0].card.name} works inside a model, and {self.name} is not open", hint="use a local open-weights model"
        )

    def read(self, text: str) -> AbstractContextManager[Reader]:
        """Read a text once, to ask about it through several recipes (see `models.reading`). Needs ``weights``."""
        raise CapabilityError(f"{self.name} is not open", hint="use a local open-weights model")

    def prepare(self, part: Technique, text: str) -> Path:
        """Run a technique's offline step on this model and keep what it finds; the file it was written to. Needs ``weights``."""
        raise CapabilityError(f"{part.card.name} is prepared inside a model, and {self.name} is not open", hint="use a local model")

    def close(self) -> None:  # noqa: B027 - most have nothing to free
        """Free what the model holds (memory, connections)."""


class Embedder(ABC):
    """Turns texts into unit vectors. ``query`` and ``passage`` differ for models trained that way."""

    name: str
    dim: int
    max_tokens: int
    remote: str = ""

    @abstractmethod
    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> NDArray[np.float32]:
        """L2-normalised vectors, shape (text, dim)."""

    @property
    def fingerprint(self) -> str:
        return self.name
