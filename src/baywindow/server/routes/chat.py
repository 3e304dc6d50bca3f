"""`POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from baywindow.server import replies
from baywindow.server.answering import answered
from baywindow.server.attachments import documents
from baywindow.server.conversation import Conversation, Turn
from baywindow.server.forms.base import check_known
from baywindow.server.forms.chat import ChatForm, refuse_unsupported
from baywindow.server.guard import tenant_of
from baywindow.server.keys import Tenant
from baywindow.server.names import Named
from baywindow.server.outcome import Hear, Outcome
from baywindow.server.service import Service
from baywindow.server.task import Task
from baywindow.server.work import Say

router = APIRouter(prefix="/v1")
Who = Annotated[Tenant, Depends(tenant_of)]
Json = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A task, the ids of its uploads by the names they are cited under, and the store it reads meanwhile."""

    task: Task
    file_ids: dict[str, str]
    store: str = ""


@router.post("/chat/completions")
async def chat(form: ChatForm, request: Request, tenant: Who) -> Response:
    """A reply to a chat. A prompt beyond the window is dealt with by the recipe that the model's name carries."""
    service: Service = request.app.state.service
    chosen = await asyncio.to_thread(service.named, form.model)  # the first use of a technique imports it
    if service.upstream is not None:
        from baywindow.server.routes.forwarding import chat_through

        return await chat_through(service, chosen, form, request, tenant)
    check_known(form)
    assert service.model is not None  # it has one or an upstream
    refuse_unsupported(form, service.model)
    return await reply(service, form, request, tenant, lambda: prepared(service, chosen, form, tenant))


async def reply(service: Service, form: ChatForm, request: Request, tenant: Tenant, prepare: Callable[[], Prepared]) -> Response:
    """Run the task that ``prepare`` makes, in a thread, and send its reply whole or as a stream."""
    head = replies.Head(model=form.model)
    if form.stream:
        events = await streamed(service, head, request, tenant, prepare, usage=form.include_usage)
        return replies.event_stream(events)

    def act(cancelled: threading.Event) -> Json:
        ready = prepare()
        outcome = _answered(service, ready, tenant, cancelled, lambda said: None)
        return replies.whole(head, outcome, ready.file_ids)

    return JSONResponse(await service.work.run(tenant.id, request, act))


async def streamed(
    service: Service, head: replies.Head, request: Request, tenant: Tenant, prepare: Callable[[], Prepared], *, usage: bool
) -> AsyncIterator[Json]:
    """The events of a reply."""

    def act(cancelled: threading.Event, say: Say) -> None:
        ready = prepare()
        events = replies.Events(head)
        outcome = _answered(service, ready, tenant, cancelled, lambda said: say(events.of(said)))
        for event in events.last(outcome, ready.file_ids):
            say(event)
        if usage:
            say(replies.spent(head, outcome))

    return await service.work.stream(tenant.id, request, act)


def _answered(service: Service, ready: Prepared, tenant: Tenant, cancelled: threading.Event, hear: Hear) -> Outcome:
    with service.stores.use.reading(ready.store):
        outcome = answered(ready.task, service.model_for(ready.task.named, tenant.id, cancelled), hear)
    service.metrics.outcome(outcome)
    return outcome


def prepared(service: Service, chosen: Named, form: ChatForm, tenant: Tenant) -> Prepared:
    """What a chat request asks, with the documents it attaches. Reads files: for a thread."""
    attached, file_ids = documents(form.files(), service.files, tenant)
    turns = form.turns(tools=service.takes_tools)
    if not any(turn.role == "user" for turn in turns):
        turns = (*turns, Turn("user", ("",)))
    corpus, store_id = None, form.vector_store_id()
    if store_id is not None:
        store = service.stores.fresh(tenant, store_id)
        corpus = service.stores.corpus(tenant, store)
        file_ids = {name: member.file_id for name, member in service.stores.sources(store).items()}
    sampling = form.sampling if service.upstream is None else form.plain_sampling  # an upstream judges the form of its replies itself
    task = Task(
        named=chosen,
        conversation=Conversation(turns, tuple(attached)),
        sampling=sampling(service.options.timeout_s),
        new_tokens=form.new_tokens,
        corpus=corpus,
        embedder=service.embedder,
        settings=service.settings,
        choices=form.choices,
        one_call=form.parallel_tool_calls is False,
    )
    return Prepared(task, file_ids, store_id or "")
