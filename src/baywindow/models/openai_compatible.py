"""Models behind an OpenAI-compatible server: OpenAI, vLLM, SGLang, Ollama, llama.cpp, `transformers serve`, `bay serve`.

Servers differ in what they take, and nothing is assumed: an optional parameter that a server refuses by name is left out from then
on, log-probabilities are probed by one tiny call when first asked for, and the window is what the caller or the server states. The
roles of a prompt are sent as they are; the server's template renders them, so defusing control tokens in contents is up to it.

A stop string is asked for *and* cut here, for some servers leave it in the text or take only four.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import CapabilityError, ContextLengthError, EndpointError, ModelError
from baywindow.models.base import Completion, Embedder, LanguageModel, Prompt, Sampling, Score, Stream
from baywindow.models.chat import Chat, RemoteReply
from baywindow.models.clock import Clock
from baywindow.models.counting import Counter
from baywindow.models.embedders import unit
from baywindow.models.endpoint import Endpoint, explained, no_api
from baywindow.models.side_by_side import side_by_side

GREEDY = Sampling()
_WINDOW_FIELDS = ("max_model_len", "context_length", "context_window")  # vLLM and SGLang; OpenRouter and Together; Groq
_EMBED_BATCH = 64


class OpenAIModel(LanguageModel):
    """One model of an endpoint. ``remote`` is empty when the server runs on this machine.

    ``context`` is its window in tokens; without it the server is asked, and if it does not say, ModelError asks for it.
    ``tokenizer`` names a local tokenizer that counts exactly; without one counts are estimates (``exact_counts`` is False), unless
    the caller brings a ``counter``.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        *,
        context: int | None = None,
        tokenizer: str | None = None,
        counter: Counter | None = None,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.remote = endpoint.remote
        self.concurrency = endpoint.concurrency
        self._counter = counter or Counter(tokenizer)
        self.exact_counts = self._counter.exact
        self.context_length = context if context is not None else self._stated_window()
        self._chat = Chat(endpoint, name)

    @property
    def fingerprint(self) -> str:
        return f"{self.name}@{self.endpoint.base_url}"

    @cached_property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]  # probed when first asked for
        return frozenset({"text", "logprobs"} if self._gives_logprobs() else {"text"})

    def count_tokens(self, text: str | Prompt) -> int:
        return self._counter.of(text)

    def generate(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Stream:
        over = self._counter.of(prompt) + sampling.max_new_tokens - self.context_length
        if over > 0:
            about = "" if self.exact_counts else " (as estimated)"
            raise ContextLengthError(
                f"the prompt and {sampling.max_new_tokens} new tokens exceed the window of {self.name} ({self.context_length}) "
                f"by {over} tokens{about}",
                hint="choose a recipe that reads in parts, e.g. hybrid > rag or chain_of_agents",
            )
        reply = RemoteReply(self._chat, self._counter, prompt, sampling)
        return Stream(reply.pieces(), reply.completion)

    def generate_many(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        """`Endpoint.concurrency` at a time and one deadline for all; the first error, or Ctrl-C, is raised and ends the others."""
        clock, stop = Clock(sampling.seconds), threading.Event()
        clock.left()

        def one(prompt: Prompt) -> Completion:
            stream = self.generate(prompt, replace(sampling, seconds=clock.left()))
            for _ in stream:
                if stop.is_set():
                    stream.close()
            return stream.completion

        try:
            return side_by_side(one, prompts, self.endpoint.concurrency)
        finally:
            stop.set()

    def score(self, prompt: str | Prompt, continuation: str) -> Score:
        """Of plain text, through the completions API with ``echo``. A token that spans the border belongs to the continuation.

        A chat prompt cannot be scored: the server keeps its template to itself. A first token with nothing before it has no score.
        """
        if "logprobs" not in self.capabilities:
            raise CapabilityError(f"{self.name} at {self.endpoint.base_url} gives no log-probabilities", hint="use a local model")
        if not isinstance(prompt, str):
            raise CapabilityError(f"{self.name} scores plain text only", hint="use a local model to score after a chat prompt")
        tokens, logprobs, starts = self._echo(prompt + continuation)
        end = len(prompt) + len(continuation)
        ends = [*starts[1:], end + 1]
        kept = [
            i for i, at in enumerate(starts) if at < end and ends[i] > len(prompt) and logprobs[i] is not None
        ]  # the one generated token begins at the end
        return Score(np.array([logprobs[i] for i in kept], dtype=np.float32), tuple(tokens[i] for i in kept))

    def close(self) -> None:
        self.endpoint.close()

    def _echo(self, text: str) -> tuple[list[str], list[float | None], list[int]]:
        """Tokens of a text with log-probabilities and character offsets, and one generated token, which servers insist on."""
        found: Any = self.endpoint.call(
            lambda client: client.completions.create(model=self.name, prompt=text, max_tokens=1, echo=True, logprobs=1, temperature=0)
        )
        choices = getattr(found, "choices", None)
        shown = choices[0].logprobs if choices else None
        if shown is None or not shown.token_logprobs or not shown.text_offset or len(shown.token_logprobs) < 2:
            raise CapabilityError(f"{self.name} at {self.endpoint.base_url} gives no log-probabilities", hint="use a local model")
        return list(shown.tokens), list(shown.token_logprobs), list(shown.text_offset)

    def _gives_logprobs(self) -> bool:
        """One tiny call. A server that cannot be reached at all is an error, not a missing capability."""
        import openai

        try:
            self._echo("The sky is blue")
        except CapabilityError:
            return False
        except EndpointError as error:
            if isinstance(error.__cause__, openai.APIStatusError) and error.__cause__.status_code in {400, 404, 405, 422, 501}:
                return False
            raise
        return True

    def _stated_window(self) -> int:
        """What the server's model list states. A list that fails is no fault; a server that is not there is one."""
        import openai

        try:
            found = self.endpoint.client.models.list()
            models = {m.id: m for m in (getattr(found, "data", None) or ())}
            stated = [getattr(models.get(self.name), field, None) for field in _WINDOW_FIELDS]
        except openai.APIConnectionError as error:
            self.endpoint.close()
            raise explained(error, self.endpoint) from error
        except (openai.OpenAIError, AttributeError, ValueError):  # no list, or not in this form
            stated = []
        for tokens in stated:
            if isinstance(tokens, int) and tokens > 0:
                return tokens
        self.endpoint.close()
        raise ModelError(f"the window of {self.name} is not known", hint="state it in tokens: --context N, or context in bay.toml")


class EndpointEmbedder(Embedder):
    """An embedding model of an endpoint. ``max_tokens`` is not stated by such servers; the caller may know better than the default."""

    tokenizer_json: str | None = None

    def __init__(self, name: str, endpoint: Endpoint, *, max_tokens: int = 512) -> None:
        self.name = name
        self.max_tokens = max_tokens
        self.remote = endpoint.remote
        self._endpoint = endpoint

    @property
    def fingerprint(self) -> str:
        return f"{self.name}@{self._endpoint.base_url}"

    @cached_property
    def dim(self) -> int:  # type: ignore[override]  # asked for when first needed
        return int(self._vectors(["dimension"]).shape[1])

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> NDArray[np.float32]:
        """``kind`` makes no difference: the interface has no place for it."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        groups = [list(texts[i : i + _EMBED_BATCH]) for i in range(0, len(texts), _EMBED_BATCH)]
        return unit(np.concatenate(side_by_side(self._vectors, groups, self._endpoint.concurrency)))

    def _vectors(self, texts: list[str]) -> NDArray[np.float32]:
        with self._endpoint.slots:
            # Floats and not base64, which only some servers know.
            found: Any = self._endpoint.call(lambda c: c.embeddings.create(model=self.name, input=texts, encoding_format="float"))
        rows = getattr(found, "data", None)
        if not rows or len(rows) != len(texts):
            raise no_api(self._endpoint, "no embeddings" if not rows else f"{len(rows)} embeddings for {len(texts)} texts")
        return np.array([row.embedding for row in sorted(rows, key=lambda r: r.index)], dtype=np.float32)
