"""The model of a `bay serve` on this machine, as `bay ask` uses it instead of loading the same one again.

Prompts are asked as they are, and tokens are counted by the server (``/v1/tokens``): a count is the one that the model itself would
give, and no tokenizer is loaded here. Nothing is probed, because what such a server offers is known.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from baywindow.models.base import Prompt
from baywindow.models.counting import Counter
from baywindow.models.endpoint import Endpoint, no_api
from baywindow.models.openai_compatible import OpenAIModel

COUNTS_KEPT = 256  # a run counts a prompt again before it is sent, and passages each time it packs them
ROUTE = "/tokens"


class ServedModel(OpenAIModel):
    """``name`` is what the model is called here, ``served`` what the server calls it; ``window`` and ``fingerprint`` are the model's."""

    capabilities = frozenset({"text"})

    def __init__(self, name: str, endpoint: Endpoint, *, served: str, window: int, fingerprint: str) -> None:
        super().__init__(served, endpoint, context=window, counter=ServerCounts(endpoint, served))
        self.name = name
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        return self._fingerprint


class ServerCounts(Counter):
    """Counts that the server makes, each asked for once."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        super().__init__()
        self.exact = True
        self._endpoint, self._model = endpoint, model
        self._kept = lru_cache(maxsize=COUNTS_KEPT)(self._asked)

    def of(self, text: str | Prompt) -> int:
        return self._kept(text if isinstance(text, str) else tuple(text))

    def learn(self, prompt: Prompt, prompt_tokens: int) -> None:
        """Nothing to learn: the counts are exact."""

    def _asked(self, text: str | Prompt) -> int:
        held: dict[str, Any] = (
            {"text": text} if isinstance(text, str) else {"messages": [{"role": m.role, "content": m.content} for m in text]}
        )
        found: Any = self._endpoint.call(lambda client: client.post(ROUTE, body={"model": self._model, **held}, cast_to=dict[str, Any]))
        tokens = found.get("tokens") if isinstance(found, dict) else None
        if not isinstance(tokens, int):
            raise no_api(self._endpoint, "no count of tokens")
        return tokens
