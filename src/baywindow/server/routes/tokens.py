"""`POST /v1/tokens`: what the served model's own tokenizer makes of a text, or of a chat with all that its template adds."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from baywindow.server.errors import ApiError
from baywindow.server.forms.base import check_known
from baywindow.server.forms.tokens import TokensForm
from baywindow.server.guard import tenant_of
from baywindow.server.keys import Tenant
from baywindow.server.service import Service

router = APIRouter(prefix="/v1")
Who = Annotated[Tenant, Depends(tenant_of)]


@router.post("/tokens")
async def tokens(form: TokensForm, request: Request, tenant: Who) -> dict[str, int]:
    """How many tokens; nothing is generated."""
    service: Service = request.app.state.service
    check_known(form)
    model = service.model
    if model is None:
        raise ApiError(400, "the upstream's tokenizer is its own", hint="ask the upstream", code="unsupported_parameter")

    def count() -> int:
        service.named(form.model)  # a name that is not served is an error here as everywhere
        return form.count(model)

    return {"tokens": await asyncio.to_thread(count)}
