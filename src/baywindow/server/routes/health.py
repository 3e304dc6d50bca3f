"""`/healthz` for whoever watches the process, `/metrics` for Prometheus."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from baywindow.server.guard import tenant_of
from baywindow.server.keys import Tenant
from baywindow.server.service import Service

router = APIRouter()


@router.get("/healthz")
async def healthz(request: Request) -> dict[str, Any]:
    """That the server runs; no key is needed, and nothing else is told."""
    return {"status": "ok"}


@router.get("/metrics", response_class=Response)
async def metrics(request: Request, tenant: Annotated[Tenant, Depends(tenant_of)]) -> Response:
    """Counts and times, in Prometheus' text format."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
