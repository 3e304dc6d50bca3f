"""Chats before an upstream: passed on as they are, or through the outside half of the recipe first.

fits, no outside half named, no documents      passed on unchanged
otherwise, plain text                          the recipe answers, its calls going to the upstream
otherwise, with tools, a form, or n or scores  the recipe's stages before its reader choose passages, which take the place of the
                                               long text, and the request is passed on: no reader stands between model and tools
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from baywindow.errors import CapabilityError
from baywindow.models.base import LanguageModel
from baywindow.server import replies
from baywindow.server.answering import needs_reading, size_of
from baywindow.server.forms.chat import ChatForm
from baywindow.server.keys import Tenant
from baywindow.server.names import Named
from baywindow.server.routes.chat import Prepared, prepared, reply
from baywindow.server.service import Service
from baywindow.server.shortening import Shortened, shortened
from baywindow.server.task import Task
from baywindow.server.upstream import Upstream

Json = dict[str, Any]
PATH = "/chat/completions"


@dataclass(frozen=True)
class Plan:
    """What becomes of a request: ``ready`` goes through the recipe; else ``body`` is passed on, ``report`` saying what was done to it."""

    ready: Prepared | None
    body: Json
    report: Json


async def chat_through(service: Service, chosen: Named, form: ChatForm, request: Request, tenant: Tenant) -> Response:
    """A reply to a chat, by way of the upstream."""
    assert service.upstream is not None  # the route asked
    if chosen.recipe.inside:
        name = chosen.recipe.inside[0].card.name
        raise CapabilityError(
            f"{name} works inside a model, and this server only passes on", hint="name the recipe's outside half: MODEL|…"
        )
    body = form.model_dump(exclude_unset=True) | {"model": chosen.model}
    plan = await service.work.run(tenant.id, request, lambda cancelled: _planned(service, chosen, form, body, tenant, cancelled))
    if plan.ready is not None:
        ready = plan.ready
        return await reply(service, form, request, tenant, lambda: ready)
    if form.stream:
        return replies.event_stream(await _started(_events(service, tenant, form, plan)))
    found = await service.work.passed_on(tenant.id, request, service.upstream.call(PATH, plan.body))
    return JSONResponse(found | {"model": form.model, "baywindow": plan.report})


def _planned(service: Service, chosen: Named, form: ChatForm, body: Json, tenant: Tenant, cancelled: threading.Event) -> Plan:
    """Counts, reads files, and runs a recipe's early stages where tools ask for it: for a thread."""
    if _only_text(form):
        ready = prepared(service, chosen, form, tenant)
        model = service.model_for(chosen, tenant.id, cancelled)
        tokens_in = size_of(ready.task, model)
        if needs_reading(ready.task, model, tokens_in) or form.vector_store_id() is not None or form.files():
            if not form.shaped:
                return Plan(ready, {}, {})
            return _shortened(ready.task, model, form, body)
        return Plan(None, _without_search(body), _report(chosen, tokens_in))
    return Plan(None, _without_search(body), _report(chosen, 0))


def _only_text(form: ChatForm) -> bool:
    """Whether every part is one that can be read here; what cannot is the upstream's to judge."""
    return not any(isinstance(m.content, list) and any(p.type in ("image_url", "input_audio") for p in m.content) for m in form.messages)


def _shortened(task: Task, model: LanguageModel, form: ChatForm, body: Json) -> Plan:
    made: Shortened = shortened(task, model)
    messages = [{"role": m.role, "content": m.content} for m in made.messages]
    report = _report(task.named, size_of(task, model)) | made.report()
    return Plan(None, _without_search(body) | {"messages": messages}, report)


def _without_search(body: Json) -> Json:
    """The request without what is done here: file_search, which other engines do not know."""
    if "tools" not in body:
        return body
    tools = [tool for tool in body["tools"] or () if tool.get("type") != "file_search"]
    dropped = {"tools", "tool_choice", "parallel_tool_calls"} if not tools else {"tools"}
    return {k: v for k, v in body.items() if k not in dropped} | ({"tools": tools} if tools else {})


def _report(chosen: Named, tokens_in: int) -> Json:
    return {
        "model": chosen.model,
        "recipe": "stock",
        "read": "forwarded",
        "tokens_in": tokens_in,
        "tokens_kept": tokens_in,
        "tokens_left_out": 0,
        "calls": 1,
        "estimated": True,
        "cache_hit": False,
        "notes": [],
        "steps": [],
    }


async def _events(service: Service, tenant: Tenant, form: ChatForm, plan: Plan) -> AsyncIterator[Json]:
    """The upstream's own events under the client's name for the model; the one that ends the reply says what was done here."""
    upstream: Upstream | None = service.upstream
    assert upstream is not None  # see `chat_through`
    async with service.work.place(tenant.id):
        async for event in upstream.stream(PATH, plan.body):
            if "error" in event:
                yield event
                return
            ends = any(choice.get("finish_reason") for choice in event.get("choices") or ())
            yield event | {"model": form.model} | ({"baywindow": plan.report} if ends else {})


async def _started(events: AsyncIterator[Json]) -> AsyncIterator[Json]:
    """The same events, once there is a first one: an upstream that is down is an error with a status, not a broken stream."""
    first = await anext(events, None)

    async def all_of_them() -> AsyncIterator[Json]:
        if first is not None:
            yield first
        async for event in events:
            yield event

    return all_of_them()
