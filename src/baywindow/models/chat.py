"""One chat call to an OpenAI-compatible server: the request, what a server refuses, and the reply as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from baywindow.errors import ContextLengthError
from baywindow.models.base import Completion, Finish, Prompt, Sampling
from baywindow.models.clock import Clock
from baywindow.models.counting import Counter
from baywindow.models.endpoint import Endpoint, explained, no_api, said
from baywindow.models.stopping import Stops

if TYPE_CHECKING:
    import openai
    from openai.types.chat import ChatCompletionChunk

_MOST_STOPS = 4  # OpenAI refuses more; the others are cut here
# Parameters that a server may refuse by name; the call is then made without.
_OPTIONAL = ("stream_options", "response_format", "seed", "stop", "top_p", "temperature")
_READ_ON_PIECES = 8  # after a stop string a server that knows it ends at once, with the usage; one that does not is hung up on


class Chat:
    """Chat calls to one model of an endpoint; remembers what the server refused."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self.endpoint = endpoint
        self._model = model
        self._refused: set[str] = set()

    def knows(self, parameter: str) -> bool:
        """Whether the server has not refused this parameter so far."""
        return parameter not in self._refused

    def open(self, prompt: Prompt, sampling: Sampling, clock: Clock) -> openai.Stream[ChatCompletionChunk]:
        """Begin a reply. EndpointError if the server fails, ContextLengthError if it says the prompt is too long."""
        import openai

        attempt = 0
        while True:
            try:
                return self._create(self.request(prompt, sampling), clock)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                self._learn(error)
            except (openai.RateLimitError, openai.InternalServerError) as error:
                # Without a deadline the SDK has already tried again; with one, only as long as it allows.
                wait = _wait(error, attempt)
                if clock.left() == float("inf") or attempt >= self.endpoint.retries or wait >= clock.left():
                    raise
                attempt += 1
                time.sleep(wait)

    def request(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        """The request's body, without what the server refused."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": m.role, "content": m.content} for m in prompt],
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        }
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop"] = list(sampling.stop[:_MOST_STOPS])
        if sampling.json_schema is not None:
            schema = {"name": "reply", "schema": sampling.json_schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        limit = "max_tokens" if self.knows("max_tokens") else "max_completion_tokens"
        return {k: v for k, v in body.items() if self.knows(k)} | {limit: sampling.max_new_tokens}

    def _create(self, body: dict[str, Any], clock: Clock) -> openai.Stream[ChatCompletionChunk]:
        client = self.endpoint.client
        if (left := clock.left()) != float("inf"):
            client = client.with_options(timeout=min(self.endpoint.timeout_s, left), max_retries=0)
        return cast("openai.Stream[ChatCompletionChunk]", client.chat.completions.create(**body, stream=True))

    def _learn(self, error: openai.APIStatusError) -> None:
        """Leave out from now on what the server refused by name; raise if it names nothing that can be left out."""
        text = f"{error.message} {error.body}"
        if "context length" in text.lower() or "context_length" in text:
            raise ContextLengthError(
                f"{self.endpoint.base_url}: {said(error)}", hint="set the model's true window with --context"
            ) from error
        for name in (*_OPTIONAL, "max_tokens"):
            if name in text and self.knows(name):
                self._refused.add(name)
                return
        raise explained(error, self.endpoint) from error


class RemoteReply:
    """One reply of a server, read piece by piece; closing it early hangs up, which ends generation there."""

    def __init__(self, chat: Chat, counter: Counter, prompt: Prompt, sampling: Sampling) -> None:
        self._chat = chat
        self._counter = counter
        self._prompt = prompt
        self._sampling = sampling
        self._clock = Clock(sampling.seconds)
        self._stops = Stops(sampling.stop)
        self._usage: tuple[int, int] | None = None
        self._finish: Finish = "cancelled"
        self._ended = False
        self._after_stop = 0

    def pieces(self) -> Iterator[str]:
        import openai

        if not self._clock.running():
            self._finish = "deadline"
            return
        with self._chat.endpoint.slots:
            try:
                with self._chat.open(self._prompt, self._sampling, self._clock) as stream:
                    yield from self._read(stream)
            except openai.APIConnectionError as error:  # of which silence is one kind; with no time left a socket fails in others too
                if self._clock.running():
                    raise explained(error, self._chat.endpoint) from error
                self._finish = "deadline"
                yield self._stops.flush()
            except openai.OpenAIError as error:
                raise explained(error, self._chat.endpoint) from error

    def _read(self, stream: openai.Stream[ChatCompletionChunk]) -> Iterator[str]:
        kind = stream.response.headers.get("content-type", "")
        if "event-stream" not in kind:
            raise no_api(self._chat.endpoint, "a web page" if "html" in kind else f"{kind or 'no content type'} instead of an event stream")
        for chunk in stream:
            if piece := self._take(chunk):
                yield piece
            if self._after_stop > _READ_ON_PIECES or self._late():
                break
        else:
            if not self._ended:
                raise no_api(self._chat.endpoint, "a reply that breaks off")
        if self._stops.stopped:
            self._finish = "stop"
        elif rest := self._stops.flush():
            yield rest

    def _take(self, chunk: ChatCompletionChunk) -> str:
        """The text that may be shown now; notes usage and why the reply ended."""
        if chunk.usage is not None:
            self._usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        if choice.finish_reason is not None:
            self._ended, self._finish = True, "length" if choice.finish_reason == "length" else "stop"
        if not choice.delta.content:
            return ""
        self._after_stop += self._stops.stopped
        return self._stops.push(choice.delta.content)

    def _late(self) -> bool:
        if self._ended or self._clock.running():
            return False
        self._finish = "deadline"
        return True

    def completion(self, text: str) -> Completion:
        """Counts are the server's; estimates, marked so, where it gave none."""
        if self._usage is not None:
            self._counter.learn(self._prompt, self._usage[0])
            return Completion(text=text, prompt_tokens=self._usage[0], generated_tokens=self._usage[1], finish=self._finish)
        sent = self._counter.of(self._prompt) if text or self._finish != "deadline" else 0
        return Completion(text=text, prompt_tokens=sent, generated_tokens=self._counter.of(text), finish=self._finish, estimated=True)


def _wait(error: openai.APIStatusError, attempt: int) -> float:
    """Seconds until the next attempt: what the server asks for, else doubling from half a second."""
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "")))
    except ValueError:
        return float(0.5 * 2**attempt)
