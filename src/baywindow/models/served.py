"""The model of a `bay serve` on this machine, as `bay ask` uses it instead of loading the same one again.

Prompts are asked as they are, a base model's with the examples that it needs, and tokens are counted by the server (``/v1/tokens``): a
count is the one that the model itself would give, and no tokenizer is loaded here. Nothing is probed: what such a server offers is known.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from baywindow.models.base import Prompt, Sampling
from baywindow.models.chat import Chat
from baywindow.models.counting import Counter
from baywindow.models.endpoint import Endpoint, no_api
from baywindow.models.openai_compatible import OpenAIModel

COUNTS_KEPT = 256  # a run counts a prompt again before it is sent, and passages each time it packs them
ROUTE = "/tokens"
NOTHING = Sampling(max_new_tokens=1)


class ServedModel(OpenAIModel):
    """``name`` is what the model is called here, ``served`` what the server calls it; ``window`` is its context length."""

    capabilities = frozenset({"text"})

    def __init__(self, name: str, endpoint: Endpoint, *, served: str, window: int, instructed: bool = True, fingerprint: str = "") -> None:
        self._counts = ServerCounts(endpoint, served)
        super().__init__(served, endpoint, context=window, counter=self._counts)
        self.name, self.instructed, self._fingerprint = name, instructed, fingerprint
        if not instructed:
            self._chat = ChatWithExamples(endpoint, served)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def prompt_tokens(self, prompt: Prompt, sampling: Sampling) -> int:
        return self._counts.of(prompt) if self.instructed else self._counts.shown(prompt, sampling)


class ChatWithExamples(Chat):
    """Requests of a base model carry its examples, in a field that only such a server knows."""

    def request(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        body = super().request(prompt, sampling)
        return body | {"extra_body": {"examples": _lists(sampling)}} if sampling.examples else body


class ServerCounts(Counter):
    """Counts that the server makes, each asked for once."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        super().__init__()
        self.exact = True
        self._endpoint, self._model = endpoint, model
        self._kept = lru_cache(maxsize=COUNTS_KEPT)(self._asked)

    def of(self, text: str | Prompt) -> int:
        return self._kept(text, NOTHING) if isinstance(text, str) else self._kept(tuple(text), NOTHING)

    def shown(self, prompt: Prompt, sampling: Sampling) -> int:
        """Of a prompt with as many examples as leave room for the reply."""
        return self._kept(tuple(prompt), Sampling(max_new_tokens=sampling.max_new_tokens, examples=sampling.examples))

    def learn(self, prompt: Prompt, prompt_tokens: int) -> None:
        """Nothing to learn: the counts are exact."""

    def _asked(self, text: str | Prompt, sampling: Sampling) -> int:
        body: dict[str, Any] = {"model": self._model}
        if isinstance(text, str):
            body["text"] = text
        else:
            body["messages"] = [{"role": m.role, "content": m.content} for m in text]
            body |= {"examples": _lists(sampling), "max_tokens": max(1, sampling.max_new_tokens)}
        found: Any = self._endpoint.call(lambda client: client.post(ROUTE, body=body, cast_to=dict[str, Any]))
        tokens = found.get("tokens") if isinstance(found, dict) else None
        if not isinstance(tokens, int):
            raise no_api(self._endpoint, "no count of tokens")
        return tokens


def _lists(sampling: Sampling) -> list[list[str]]:
    return [list(pair) for pair in sampling.examples]
