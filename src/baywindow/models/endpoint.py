"""A connection to an OpenAI-compatible server: address, key, waiting, and every failure as one line with a hint.

The key is read from the environment variable that the settings name, and is never shown, logged or stored. Retries are the SDK's
(with its waiting times). A server on this machine is talked to directly, never through a proxy from the environment.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from baywindow.errors import ConfigError, EndpointError

if TYPE_CHECKING:
    import openai

OPENAI = "https://api.openai.com/v1"
_T = TypeVar("_T")


class EndpointSettings(Protocol):
    """What a connection reads of the settings."""

    @property
    def api_key_env(self) -> str: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def timeout_s(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to send requests and how patiently. ``retries`` are attempts after the first; a ``token`` is sent instead of the
    environment's key."""

    base_url: str = OPENAI
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 4
    timeout_s: float = 120.0
    retries: int = 2
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError.bad_value("base_url", self.base_url, "an address such as http://localhost:8000/v1")

    @classmethod
    def of(cls, settings: EndpointSettings | None, *, base_url: str | None = None) -> Endpoint:
        """From settings; without a ``base_url`` it is OPENAI_BASE_URL, else OpenAI's own."""
        url = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
        if settings is None:
            return cls(base_url=url)
        return cls(base_url=url, api_key_env=settings.api_key_env, concurrency=settings.concurrency, timeout_s=settings.timeout_s)

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""

    @property
    def remote(self) -> str:
        """The address text is sent to, or empty when that is this machine."""
        return "" if is_loopback(self.host) else self.base_url

    @cached_property
    def slots(self) -> threading.BoundedSemaphore:
        """One slot a call under way; `concurrency` of them."""
        return threading.BoundedSemaphore(self.concurrency)

    @cached_property
    def client(self) -> openai.OpenAI:
        """The SDK's client. ConfigError without a key where one is sure to be needed."""
        import openai

        key = self.token or os.environ.get(self.api_key_env, "")
        if not key and self.host == urlsplit(OPENAI).hostname:
            raise ConfigError(
                f"no key for {self.host}", hint=f"set the environment variable {self.api_key_env}, or name another in api_key_env"
            )
        return openai.OpenAI(
            base_url=self.base_url,
            api_key=key or "none",  # the SDK insists on one; local servers ignore it
            timeout=self.timeout_s,
            max_retries=self.retries,
            http_client=openai.DefaultHttpxClient(trust_env=False) if is_loopback(self.host) else None,
        )

    def call(self, request: Callable[[openai.OpenAI], _T]) -> _T:
        """Make one request; the SDK's errors become ours."""
        import openai

        try:
            return request(self.client)
        except openai.OpenAIError as error:
            raise explained(error, self) from error

    def close(self) -> None:
        """Give back the connections; a later call opens new ones."""
        if (client := self.__dict__.pop("client", None)) is not None:
            client.close()


def explained(error: Exception, endpoint: Endpoint) -> EndpointError:
    """One line: which endpoint, what happened, what to do. The server's own words are cut to one short line."""
    import openai

    where = endpoint.base_url
    if isinstance(error, openai.APITimeoutError):
        return EndpointError(f"{where} did not answer in time", hint=f"is it busy? timeout_s is {endpoint.timeout_s:g}")
    if isinstance(error, openai.RateLimitError):
        return EndpointError(f"{where} is rate-limited: {said(error)}", hint="wait, lower `concurrency`, or check your quota")
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return EndpointError(f"{where} refused the key", hint=f"check the environment variable {endpoint.api_key_env}")
    if isinstance(error, openai.APIStatusError):
        hint = "check the model's name and the base URL (it usually ends in /v1)" if error.status_code == 404 else "see the server's log"
        return EndpointError(f"{where} answered HTTP {error.status_code}: {said(error)}", hint=hint)
    if isinstance(error, openai.APIConnectionError):
        cause = str(error.__cause__ or "").strip().splitlines()
        return EndpointError(f"{where} cannot be reached{': ' + cause[0][:120] if cause else ''}", hint="is the server running there?")
    return EndpointError(f"{where} answered wrongly: {said(error)}", hint="is it an OpenAI-compatible server?")


def no_api(endpoint: Endpoint, what: str) -> EndpointError:
    """The server answers, but not as this API does (a web page, plain text, nothing)."""
    return EndpointError(f"{endpoint.base_url} answered with {what}", hint="check the base URL; it usually ends in /v1")


def said(error: Exception) -> str:
    """The server's message in one short line; a web page is only named as one."""
    body: Any = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body.get("detail", body))  # OpenAI's form, FastAPI's form
        body = inner.get("message", inner) if isinstance(inner, dict) else inner
    text = str(body or error).strip()
    if text.lstrip().startswith("<") or "<html" in text.lower():
        return "a web page"
    return (text.splitlines() or ["no message"])[0][:200]


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
