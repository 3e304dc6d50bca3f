"""`/v1/vector_stores`: files that were read and indexed, to be searched, or asked through the file_search tool of a chat."""

from __future__ import annotations

import asyncio
import threading
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from baywindow.context.ask import search as search_corpus
from baywindow.server.errors import not_found
from baywindow.server.forms.base import check_known, refuse
from baywindow.server.forms.stores import ChangedStoreForm, NewMemberForm, NewStoreForm, SearchForm
from baywindow.server.guard import tenant_of
from baywindow.server.keys import Tenant
from baywindow.server.routes.files import page
from baywindow.server.service import Service
from baywindow.server.vector_store import VectorStore, member_to_openai, to_openai

router = APIRouter(prefix="/v1/vector_stores")
Who = Annotated[Tenant, Depends(tenant_of)]
Limit = Annotated[int, Query(ge=1, le=100)]
After = Annotated[str | None, Query(max_length=64)]
Json = dict[str, Any]


@router.post("")
async def make(form: NewStoreForm, request: Request, tenant: Who) -> Json:
    """A new store, with the files that are to be in it."""
    service: Service = request.app.state.service
    check_known(form)

    def made() -> VectorStore:
        files = [service.files.get(tenant, file_id) for file_id in form.file_ids or ()]
        store = service.stores.new(tenant, form.name or "", form.metadata or {})
        for file in files:
            service.stores.add(tenant, store.id, file, {})
        return service.stores.get(tenant, store.id)

    return to_openai(await asyncio.to_thread(made))


@router.get("")
async def listed(request: Request, tenant: Who, limit: Limit = 20, after: After = None) -> Json:
    """The tenant's stores, newest first."""
    service: Service = request.app.state.service
    return page([to_openai(store) for store in await asyncio.to_thread(service.stores.all, tenant)], limit, after)


@router.get("/{store_id}")
async def one(store_id: str, request: Request, tenant: Who) -> Json:
    """What is known of a store."""
    service: Service = request.app.state.service
    return to_openai(await asyncio.to_thread(service.stores.get, tenant, store_id))


@router.post("/{store_id}")
async def change(store_id: str, form: ChangedStoreForm, request: Request, tenant: Who) -> Json:
    """Another name, other metadata."""
    service: Service = request.app.state.service
    check_known(form)

    def act(store: VectorStore) -> None:
        store.name = form.name if form.name is not None else store.name
        store.metadata = form.metadata if form.metadata is not None else store.metadata

    return to_openai(await asyncio.to_thread(service.stores.change, tenant, store_id, act))


@router.delete("/{store_id}")
async def remove(store_id: str, request: Request, tenant: Who) -> Json:
    """Delete a store and its index; its files stay."""
    service: Service = request.app.state.service
    await asyncio.to_thread(service.stores.remove, tenant, store_id)
    return {"id": store_id, "object": "vector_store.deleted", "deleted": True}


@router.post("/{store_id}/files")
async def add_file(store_id: str, form: NewMemberForm, request: Request, tenant: Who) -> Json:
    """Put a file into a store; it is read in the background."""
    service: Service = request.app.state.service
    check_known(form)

    def added() -> Json:
        file = service.files.get(tenant, form.file_id)
        return member_to_openai(store_id, service.stores.add(tenant, store_id, file, form.attributes or {}))

    return await asyncio.to_thread(added)


@router.get("/{store_id}/files")
async def files(store_id: str, request: Request, tenant: Who, limit: Limit = 20, after: After = None) -> Json:
    """The files of a store, newest first."""
    service: Service = request.app.state.service
    store = await asyncio.to_thread(service.stores.get, tenant, store_id)
    return page([member_to_openai(store_id, m) for m in reversed(store.members.values())], limit, after)


@router.get("/{store_id}/files/{file_id}")
async def one_file(store_id: str, file_id: str, request: Request, tenant: Who) -> Json:
    """How far the reading of a file is."""
    service: Service = request.app.state.service
    store = await asyncio.to_thread(service.stores.get, tenant, store_id)
    if file_id not in store.members:
        raise not_found("file", file_id)
    return member_to_openai(store_id, store.members[file_id])


@router.delete("/{store_id}/files/{file_id}")
async def remove_file(store_id: str, file_id: str, request: Request, tenant: Who) -> Json:
    """Take a file out of a store; the file stays."""
    service: Service = request.app.state.service
    await asyncio.to_thread(service.stores.take_out, tenant, store_id, file_id)
    return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}


@router.post("/{store_id}/search")
async def search(store_id: str, form: SearchForm, request: Request, tenant: Who) -> Json:
    """The best passages for a question, each with the place it comes from."""
    service: Service = request.app.state.service
    check_known(form)
    refuse(form, {"rewrite_query": (False,), "filters": (), "ranking_options": ()}, "is not supported")

    def found(cancelled: threading.Event) -> Json:
        store = service.stores.fresh(tenant, store_id)
        members = service.stores.sources(store)
        with service.stores.use.reading(store_id):
            corpus = service.stores.corpus(tenant, store)
            passages = search_corpus(form.text, corpus, k=form.max_num_results, settings=service.settings)
        rows = [
            {
                "file_id": members[p.source].file_id,
                "filename": members[p.source].filename,
                "score": p.score,
                "attributes": members[p.source].attributes,
                "content": [{"type": "text", "text": p.text}],
                "baywindow": {"start": p.start, "end": p.end, "line": p.line, "page": p.page, "label": p.label},
            }
            for p in passages
        ]
        return {
            "object": "vector_store.search_results.page",
            "search_query": [form.text],
            "data": rows,
            "has_more": False,
            "next_page": None,
        }

    return await service.work.run(tenant.id, request, found)
