"""`/v1/files`: uploads. Each tenant sees its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse

from baywindow.server.guard import tenant_of
from baywindow.server.keys import Tenant
from baywindow.server.service import Service

router = APIRouter(prefix="/v1/files")
Who = Annotated[Tenant, Depends(tenant_of)]
Json = dict[str, Any]
PIECE_BYTES = 1 << 20


@router.post("")
async def upload(request: Request, tenant: Who, file: Annotated[UploadFile, File()], purpose: Annotated[str, Form(max_length=64)]) -> Json:
    """Keep a file. ``purpose`` is remembered and changes nothing."""
    service: Service = request.app.state.service

    def keep(cancelled: threading.Event) -> Json:
        return service.files.add(tenant, file.filename or "", purpose, _pieces(file)).to_openai()

    return await service.work.run(tenant.id, request, keep)


@router.get("")
async def listed(
    request: Request,
    tenant: Who,
    purpose: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Json:
    """The tenant's files, newest first."""
    service: Service = request.app.state.service
    files = await asyncio.to_thread(service.files.all, tenant)
    return page([f.to_openai() for f in files if purpose in (None, f.purpose)], limit, after)


@router.get("/{file_id}")
async def one(file_id: str, request: Request, tenant: Who) -> Json:
    """What is known of a file."""
    service: Service = request.app.state.service
    return (await asyncio.to_thread(service.files.get, tenant, file_id)).to_openai()


@router.get("/{file_id}/content", response_class=FileResponse)
async def content(file_id: str, request: Request, tenant: Who) -> FileResponse:
    """The file as it was sent; never as a page of this server's."""
    service: Service = request.app.state.service
    file = await asyncio.to_thread(service.files.get, tenant, file_id)
    return FileResponse(service.files.path(tenant, file), media_type="application/octet-stream", filename=file.filename)


@router.delete("/{file_id}")
async def remove(file_id: str, request: Request, tenant: Who) -> Json:
    """Delete a file, also from every vector store."""
    service: Service = request.app.state.service

    def forget() -> None:
        service.files.get(tenant, file_id)
        service.stores.forget_file(tenant, file_id)
        service.files.remove(tenant, file_id)

    await asyncio.to_thread(forget)
    return {"id": file_id, "object": "file", "deleted": True}


def page(rows: list[Json], limit: int, after: str | None) -> Json:
    """One page of a list, from behind the row with the id ``after``."""
    ids = [row["id"] for row in rows]
    start = ids.index(after) + 1 if after in ids else 0
    shown = rows[start : start + limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": start + limit < len(rows),
    }


def _pieces(file: UploadFile) -> Iterator[bytes]:
    while piece := file.file.read(PIECE_BYTES):
        yield piece
