"""What is checked before a request is read: its size, where it comes from, and whose it is.

Plain ASGI layers, so that they see the body as it arrives and a client that leaves.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import Request
from starlette.exceptions import HTTPException

from baywindow.models.endpoint import is_loopback
from baywindow.server.errors import ApiError, response, too_large
from baywindow.server.keys import LOCAL, Tenant

if TYPE_CHECKING:
    from baywindow.server.service import Service

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_DRAINED_BYTES = 256_000_000
# One page that shows what it is told, and nothing from elsewhere: no inline script, no frame, no other address.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Guard:
    """Refuses bodies that are too large and pages of other sites; counts every request."""

    def __init__(self, app: App, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            await self._checked(scope, receive, sending)
        except Exception as error:  # a fault of ours; left to Starlette, it would also end the connection
            if status:
                raise
            await response(error)(scope, receive, sending)
        finally:
            route = scope.get("route")
            self._service.metrics.request(getattr(route, "path", "other"), status, time.monotonic() - started)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        limit = self._limit(headers)
        length = headers.get("content-length", "0")
        try:
            self._check_origin(headers)
            if length.isdigit() and int(length) > limit:
                await _drain(receive, {"type": "http.request", "more_body": True})
                raise too_large()
        except ApiError as error:
            await response(error)(scope, receive, send)
            return
        read = 0

        async def counting() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                await _drain(receive, message)
                raise HTTPException(413)  # the one kind of error that FastAPI lets pass while it reads a body
            return message

        await self._app(scope, counting, send)

    def _limit(self, headers: dict[str, str]) -> int:
        options = self._service.options
        return options.upload_bytes if headers.get("content-type", "").startswith("multipart/") else options.body_bytes

    def _check_origin(self, headers: dict[str, str]) -> None:
        """A page of another site may make a browser send requests here. Where no key is asked for, that would be enough."""
        if self._service.needs_key:
            return
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        origin = headers.get("origin")
        if not is_loopback(host) or (origin is not None and urlsplit(origin).netloc != headers.get("host")):
            raise ApiError(
                403, "requests from other sites are refused", hint="use http://127.0.0.1, or a server with keys", code="foreign_origin"
            )


async def _drain(receive: Receive, message: Message) -> None:
    """Read on for a while, keeping nothing: a client that is still sending would miss the answer."""
    read = 0
    while message.get("more_body", False) and message["type"] == "http.request" and read < MOST_DRAINED_BYTES:
        message = await receive()
        read += len(message.get("body", b""))


def tenant_of(request: Request) -> Tenant:
    """Whose request it is, by its bearer token; 401 without a good one where keys are asked for, 429 beyond the key's rate."""
    service: Service = request.app.state.service
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else ""
    own = service.options.local_token
    if own and hmac.compare_digest(token.encode(), own.encode()):
        return LOCAL
    tenant = service.keys.tenant_of(token) if token else None
    if tenant is None and service.needs_key:
        raise ApiError(401, "a key is needed, and this is none", hint="send `Authorization: Bearer KEY`", code="invalid_api_key")
    found = tenant or LOCAL
    service.rates.take(found.id)
    return found
