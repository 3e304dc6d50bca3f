"""Every failure in OpenAI's error shape, with a hint: ``{"error": {"message", "type", "param", "code", "hint"}}``.

A fault of the server's own says so and nothing more: its words, which may hold a path or somebody's text, go to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from baywindow.errors import (
    BayError,
    BudgetError,
    CapabilityError,
    ConfigError,
    ContextLengthError,
    EndpointError,
    IndexBusyError,
    RecipeError,
    SourceError,
)
from baywindow.server.names import UnknownModelError
from baywindow.server.wrapped import Cancelled

log = logging.getLogger("baywindow.server")
Body = dict[str, Any]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    499: "request_cancelled",
}
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (UnknownModelError, "model_not_found"),
    (RecipeError, "invalid_recipe"),
    (ContextLengthError, "context_length_exceeded"),
    (BudgetError, "budget_exceeded"),
    (CapabilityError, "unsupported"),
    (EndpointError, "upstream_error"),
    (SourceError, "unreadable_document"),
    (IndexBusyError, "busy"),
    (ConfigError, "invalid_value"),
)


class ApiError(BayError):
    """A request that is refused here, with the status and code of OpenAI's API."""

    def __init__(
        self, status: int, message: str, *, hint: str = "", param: str | None = None, code: str | None = None, retry_after_s: int = 0
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.param, self.code, self.retry_after_s = status, param, code, retry_after_s


def not_found(what: str, name: str) -> ApiError:
    """The same words whether it never was or belongs to somebody else."""
    return ApiError(404, f"there is no {what} {name[:80]!r}", hint=f"list yours, or make one: POST /v1/{what}s", code="not_found")


def too_large() -> ApiError:
    return ApiError(413, "the request is too large", hint="upload long documents as files", code="request_too_large")


def told(error: BaseException) -> tuple[int, Body, dict[str, str]]:
    """Status, body and headers of any error."""
    if isinstance(error, ApiError):
        headers = {"retry-after": str(error.retry_after_s)} if error.retry_after_s else {}
        return error.status, _body(error.status, error.message, error.hint, error.param, error.code), headers
    if isinstance(error, Cancelled):
        return 499, _body(499, "the request was cancelled", "the client hung up, or the server is stopping", None, "cancelled"), {}
    if isinstance(error, BayError):
        code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
        param = "model" if isinstance(error, UnknownModelError | RecipeError) else None
        return error.http_status, _body(error.http_status, error.message, error.hint, param, code), {}
    log.error("a request failed: %s", type(error).__name__, exc_info=error)
    return 500, _body(500, f"the server failed: {type(error).__name__}", "the server's log tells more", None, "server_error"), {}


def response(error: BaseException) -> JSONResponse:
    status, body, headers = told(error)
    return JSONResponse(body, status, headers)


def install(app: FastAPI) -> None:
    """Make every error of the app one of ours; what nobody foresaw is caught in `guard`."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return response(of_validation(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 413:
            return response(too_large())
        hint = "see /openapi.json for what there is" if error.status_code in (404, 405) else ""
        return response(ApiError(error.status_code, str(error.detail), hint=hint))

    @app.exception_handler(BayError)
    @app.exception_handler(Cancelled)
    async def ours(request: Request, error: Exception) -> JSONResponse:
        return response(error)


def of_validation(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first complaint of pydantic as OpenAI would word it; what was sent is not repeated."""
    first = errors[0]
    where = _path(first["loc"])
    if first["type"] == "json_invalid":
        return ApiError(400, "the body is not valid JSON", hint=str(first.get("ctx", {}).get("error", ""))[:120], code="invalid_json")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unknown parameter: '{where}'.", hint="leave it out", param=where, code="unknown_parameter")
    if first["type"] == "missing":
        return ApiError(400, f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter")
    wording = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    return ApiError(400, f"Invalid value for '{where}': {first['msg'][:200]}", param=where or None, code=wording)


def _path(location: Sequence[str | int]) -> str:
    """``messages[0].content``, without the names of alternatives that pydantic puts between."""
    path = ""
    for part in location[1:] if location and location[0] in ("body", "query", "path", "header") else location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier():
            path += f".{part}" if path else part
    return path


def _body(status: int, message: str, hint: str, param: str | None, code: str | None) -> Body:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    shown = f"{message} ({hint})" if hint else message  # clients show the message and nothing else
    return {"error": {"message": shown, "type": kind, "param": param, "code": code, "hint": hint}}
