"""What the page at `/` needs beyond OpenAI's API: what there is, a file's text, the runs of the bench, and the memory browser."""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse

from baywindow import recipe, registry
from baywindow.bench import runs
from baywindow.bench.report import content as report_of
from baywindow.bench.store import Store
from baywindow.bench.summary import Summary
from baywindow.home import data_dir
from baywindow.memory.memory import Memory
from baywindow.memory.records import Recalled, Record, Scope, Turn
from baywindow.server.attachments import documents
from baywindow.server.errors import ApiError, not_found
from baywindow.server.forms.chat import FileReference
from baywindow.server.guard import tenant_of
from baywindow.server.keys import LOCAL, Tenant
from baywindow.server.service import Service

router = APIRouter(prefix="/studio", include_in_schema=False)
Who = Annotated[Tenant, Depends(tenant_of)]
Json = dict[str, Any]
MEMORIES = 50  # shown at once


@router.get("/about")
async def about(request: Request, tenant: Who) -> Json:
    """What to offer: models, recipes, this tenant's files, and which views have something to show."""
    service: Service = request.app.state.service
    names = await service.upstream.names() if service.upstream is not None else ()
    files = await asyncio.to_thread(service.files.all, tenant)
    return {
        "version": importlib.metadata.version("baywindow"),
        "models": list(names) or list(service.served),
        "label": service.model.label if service.model is not None else "",
        "recipes": _recipes(service),
        "files": [f.to_openai() for f in files],
        "memory": _has_memory(),
        "bench": tenant == LOCAL,
    }


@router.get("/recipe")
async def parsed(request: Request, tenant: Who, line: Annotated[str, Query(max_length=recipe.LONGEST)]) -> Json:
    """A recipe as it will run, and what to write behind a model's name for it."""
    service: Service = request.app.state.service
    made = recipe.parse(service.settings.recipe_of(line) or line)
    if line in service.settings.recipes:
        return {"line": line, "suffix": ("+" if made.inside else "|") + line}
    return {"line": str(made), "suffix": ("+" if made.inside else "|") + str(made)}


@router.get("/files/{file_id}/text", response_class=PlainTextResponse)
async def file_text(file_id: str, request: Request, tenant: Who) -> PlainTextResponse:
    """A file's text as citations count it."""
    service: Service = request.app.state.service
    [document], _ = await asyncio.to_thread(documents, [FileReference(file_id=file_id)], service.files, tenant)
    return PlainTextResponse(document.text)


@router.get("/runs")
async def listed_runs(tenant: Who) -> Json:
    """The bench's runs on this machine, newest first; for whoever sits at it."""
    _only_local(tenant)
    return {"data": [{"name": runs.name_of(path)} for path in reversed(runs.all_runs())]}


@router.get("/runs/{name}")
async def run(name: str, tenant: Who) -> Json:
    """One run's report as blocks. Only names that `/runs` lists are known: no path is made from a request."""
    _only_local(tenant)
    known = {runs.name_of(path): path for path in runs.all_runs()}
    if name not in known:
        raise not_found("run", name)

    def read() -> list[Json]:
        with Store(known[name]) as store:
            blocks = report_of(Summary.of(store, name), figures=True)
        shown = ("kind", "text", "level", "header", "rows")
        return [{k: getattr(b, k) for k in shown} | {"png": base64.b64encode(b.png).decode()} for b in blocks]

    return {"blocks": await asyncio.to_thread(read)}


@router.get("/memories")
async def memories(request: Request, tenant: Who, q: Annotated[str, Query(max_length=2000)] = "") -> Json:
    """What is remembered of this tenant: the best for a query, or the newest."""

    def read() -> Json:
        with _memory(request) as memory:
            scope = scope_of(tenant)
            found = memory.search(q, scope, MEMORIES) if q.strip() else list(reversed(memory.list(scope)))[:MEMORIES]
            return {"data": [_memory_row(one) for one in found], "where": memory.where}

    return await asyncio.to_thread(read)


@router.get("/memories/{memory_id}")
async def history(memory_id: str, request: Request, tenant: Who) -> Json:
    """The words a memory rests on, and all its versions."""

    def read() -> Json:
        with _memory(request) as memory:
            told = memory.history(memory_id, scope_of(tenant))
            versions = [{"text": record.text, "current": record.current} for record in told.versions]
            return {"versions": versions, "turns": [{"speaker": turn.who, "text": turn.text} for turn in told.turns]}

    return await asyncio.to_thread(read)


@router.delete("/memories/{memory_id}")
async def forget(memory_id: str, request: Request, tenant: Who) -> Json:
    """Forget one, with the words it rests on."""

    def work() -> None:
        with _memory(request) as memory:
            memory.forget(memory_id, scope=scope_of(tenant))

    await asyncio.to_thread(work)
    return {"id": memory_id, "deleted": True}


def scope_of(tenant: Tenant) -> Scope:
    """Whoever sits at the machine has the memory that `bay chat` fills; a key has one of its own."""
    return Scope() if tenant == LOCAL else Scope(user=f"key:{tenant.id}")


def _memory(request: Request) -> Memory:
    service: Service = request.app.state.service
    return Memory(embedder=service.embedder, settings=service.settings)


def _has_memory() -> bool:
    return any(data_dir("memory").iterdir())


def _memory_row(one: Recalled | Record | Turn) -> Json:
    if isinstance(one, Turn):
        return {"id": one.id, "text": one.text, "kind": "said", "speaker": one.who, "said_at": one.said_at.isoformat()}
    said_at = one.said_at.isoformat() if one.said_at else ""
    return {"id": one.id, "text": one.text, "kind": one.kind, "speaker": "", "said_at": said_at}


def _recipes(service: Service) -> list[Json]:
    """The operator's own recipes, the presets, and every technique alone that a request may name."""
    own = [{"line": name, "summary": "from bay.toml"} for name in service.settings.recipes]
    presets = [{"line": preset.name, "summary": preset.summary} for preset in registry.presets().values()]
    rooms = ("window/", "context/")
    inside_works = service.model is not None and "kv" in service.model.capabilities
    parts = [c for c in registry.cards() if c.room.startswith(rooms) and (c.side == "outside" or inside_works)]
    return [*own, *presets, *({"line": card.name, "summary": card.summary} for card in parts)]


def _only_local(tenant: Tenant) -> None:
    if tenant != LOCAL:
        raise ApiError(403, "the bench's runs are shown to whoever sits at this machine only", code="local_only")
