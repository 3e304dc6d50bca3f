"""`GET /v1/models`: what may stand in a request's ``model``."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from baywindow.server.guard import tenant_of
from baywindow.server.keys import Tenant
from baywindow.server.names import UnknownModelError
from baywindow.server.service import Service

router = APIRouter(prefix="/v1/models")
Who = Annotated[Tenant, Depends(tenant_of)]
Json = dict[str, Any]
STARTED = int(time.time())


@router.get("")
async def listed(request: Request, tenant: Who) -> Json:
    """The served model, or the upstream's; the recipes of bay.toml; the embedder. Any model's name may be followed by a recipe."""
    return {"object": "list", "data": await _rows(request.app.state.service)}


@router.get("/{name:path}")
async def one(name: str, request: Request, tenant: Who) -> Json:
    """One of them; a model's name with a recipe counts if the recipe parses."""
    service: Service = request.app.state.service
    rows = {row["id"]: row for row in await _rows(service)}
    if name in rows:
        return rows[name]
    chosen = await asyncio.to_thread(service.named, name)  # the first use of a technique imports it
    if chosen.model not in rows:
        raise UnknownModelError(f"there is no model {chosen.model[:100]!r}", hint="GET /v1/models lists them")
    return rows[chosen.model] | {"id": name}


async def _rows(service: Service) -> list[Json]:
    window = {"max_model_len": service.model.context_length} if service.model is not None else {}
    names = list(service.served) if service.upstream is None else [*await service.upstream.names()] or list(service.served)
    found = [_row(name) | window for name in names]
    found += [_row(name) | {"baywindow": {"recipe": str(recipe)}} for name, recipe in service.settings.recipes.items() if service.served]
    return [*found, _row(service.embedder_name)]


def _row(name: str) -> Json:
    return {"id": name, "object": "model", "created": STARTED, "owned_by": "baywindow"}
