"""Another engine behind this one: the outside half of a recipe here, generation there.

A request that fits and names no outside half is passed on as it came, whatever its fields mean (tools, images, a response format);
its reply comes back as it is, with the model's name as the client wrote it and a ``baywindow`` field. The key that is sent is this
server's, from the environment variable of ``api_key_env``; a client's key never leaves.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import httpx

from baywindow.config import Settings
from baywindow.errors import EndpointError
from baywindow.models.endpoint import Endpoint, is_loopback
from baywindow.models.openai_compatible import OpenAIModel
from baywindow.server.errors import ApiError

MOST_MODELS = 32  # connections remembered
MOST_REPLY_BYTES = 64_000_000
_PASSED_ON = (400, 401, 403, 404, 409, 413, 422, 429)  # what the upstream says of the request; anything else is its failure
Json = dict[str, Any]


class Upstream:
    """An OpenAI-compatible server at ``base_url``."""

    def __init__(self, base_url: str, settings: Settings) -> None:
        self._settings = settings
        self._endpoint = Endpoint.of(settings, base_url=base_url)
        self._models: OrderedDict[str, OpenAIModel] = OrderedDict()
        self._lock = threading.Lock()
        self._client: httpx.AsyncClient | None = None

    @property
    def url(self) -> str:
        return self._endpoint.base_url

    def model(self, name: str) -> OpenAIModel:
        """For calls that a recipe makes. ModelError where the window is neither stated nor set, EndpointError where nobody answers."""
        with self._lock:
            found = self._models.pop(name, None)
        if found is None:
            endpoint = Endpoint.of(self._settings, base_url=self.url)
            found = OpenAIModel(name, endpoint, context=self._settings.context, tokenizer=self._settings.tokenizer)
        with self._lock:
            self._models[name] = found
            while len(self._models) > MOST_MODELS:
                self._models.popitem(last=False)
        return found

    async def names(self) -> list[str]:
        """The models it lists; none if it keeps no list."""
        try:
            reply = await self._http().get(f"{self.url}/models", headers=self._headers())
            rows = reply.json().get("data", []) if reply.status_code == 200 else []
            return [str(row["id"]) for row in rows]
        except httpx.HTTPError as error:
            raise self._failed(error) from error
        except (ValueError, AttributeError, TypeError, KeyError):
            return []

    async def call(self, path: str, body: Json) -> Json:
        """A whole reply. ApiError with what the upstream says of the request, EndpointError for its own failures."""
        try:
            reply = await self._http().post(f"{self.url}{path}", json=body, headers=self._headers())
        except httpx.HTTPError as error:
            raise self._failed(error) from error
        self._check(reply.status_code, reply.content)
        return self._json(reply.content)

    async def stream(self, path: str, body: Json) -> AsyncIterator[Json]:
        """The events of a streamed reply, each as it comes; what is no event of this API ends it with an EndpointError."""
        request = self._http().build_request("POST", f"{self.url}{path}", json=body, headers=self._headers())
        try:
            reply = await self._http().send(request, stream=True)
            try:
                if reply.status_code != 200:
                    self._check(reply.status_code, await reply.aread())
                async for line in reply.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return
                    yield self._json(data.encode())
            finally:
                await reply.aclose()
        except httpx.HTTPError as error:
            raise self._failed(error) from error
        raise EndpointError(f"{self.url} broke off in the middle of a reply", hint="see its log")

    def close(self) -> None:
        for model in self._models.values():
            model.close()

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            timeout = httpx.Timeout(self._endpoint.timeout_s, connect=10.0)
            self._client = httpx.AsyncClient(timeout=timeout, trust_env=not is_loopback(self._endpoint.host), limits=httpx.Limits())
        return self._client

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self._endpoint.api_key_env, "")
        return {"authorization": f"Bearer {key}"} if key else {}

    def _check(self, status: int, content: bytes) -> None:
        if status == 200:
            return
        said = _message(content)
        if status in _PASSED_ON:
            status = 502 if status in (401, 403) else status  # its quarrel is with this server's key, not with the client's
            raise ApiError(status, f"{self.url} refused this: {said}", code="upstream_refused")
        raise EndpointError(f"{self.url} answered HTTP {status}: {said}", hint="see its log")

    def _json(self, content: bytes) -> Json:
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict) or len(content) > MOST_REPLY_BYTES:
            raise EndpointError(f"{self.url} answered with something else than JSON", hint="check the address; it usually ends in /v1")
        return found

    def _failed(self, error: httpx.HTTPError) -> EndpointError:
        if isinstance(error, httpx.TimeoutException):
            return EndpointError(f"{self.url} did not answer in time", hint=f"is it busy? timeout_s is {self._endpoint.timeout_s:g}")
        return EndpointError(f"{self.url} cannot be reached: {type(error).__name__}", hint="is the server running there?")


def _message(content: bytes) -> str:
    """The upstream's own words in one short line; a web page is not repeated."""
    try:
        body = json.loads(content)
        inner = body.get("error", body)
        text = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    except (ValueError, AttributeError):
        return "no message"
    return " ".join(text.split())[:300]
