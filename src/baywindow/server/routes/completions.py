"""`POST /v1/completions` and `POST /v1/embeddings`."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from baywindow.errors import CapabilityError
from baywindow.server import replies
from baywindow.server.answering import answered
from baywindow.server.conversation import Conversation, Turn
from baywindow.server.errors import ApiError
from baywindow.server.forms.base import check_known
from baywindow.server.forms.completions import DEFAULT_NEW_TOKENS, CompletionForm, EmbeddingForm, refuse_unsupported
from baywindow.server.guard import tenant_of
from baywindow.server.keys import Tenant
from baywindow.server.names import Named
from baywindow.server.routes.chat import Prepared, streamed
from baywindow.server.service import Service
from baywindow.server.task import Task

router = APIRouter(prefix="/v1")
Who = Annotated[Tenant, Depends(tenant_of)]
Json = dict[str, Any]


@router.post("/completions")
async def completions(form: CompletionForm, request: Request, tenant: Who) -> Response:
    """A text goes on. Before an upstream it is passed on; a local model goes on without a template."""
    service: Service = request.app.state.service
    chosen = await asyncio.to_thread(service.named, form.model)
    if service.upstream is not None:
        return await _through(service, chosen, form, request, tenant)
    check_known(form)
    assert service.model is not None  # it has one or an upstream
    refuse_unsupported(form, service.model)
    prompts = form.prompts()
    head = replies.Head(model=form.model, chat=False)

    def task(text: str) -> Prepared:
        made = Task(
            named=chosen,
            conversation=Conversation((Turn("user", (text,)),)),
            text=text,
            sampling=form.sampling(service.options.timeout_s),
            new_tokens=form.max_tokens or DEFAULT_NEW_TOKENS,
            embedder=service.embedder,
            settings=service.settings,
            choices=form.choices,
        )
        return Prepared(made, {})

    if form.stream:
        return replies.event_stream(await streamed(service, head, request, tenant, lambda: task(prompts[0]), usage=form.include_usage))

    def act(cancelled: threading.Event) -> list[Json]:
        found = []
        for i, text in enumerate(prompts):
            outcome = answered(task(text).task, service.model_for(chosen, tenant.id, cancelled), lambda said: None)
            service.metrics.outcome(outcome)
            found.append(replies.whole(head, outcome, {}, i * form.choices))
        return found

    return JSONResponse(_joined(await service.work.run(tenant.id, request, act)))


def _joined(found: list[Json]) -> Json:
    """Several replies as one: their choices together, their usage added up."""
    usage = {name: sum(one["usage"][name] for one in found) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    cached = sum(one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in found)
    details = {"prompt_tokens_details": {"cached_tokens": cached}}
    return found[0] | {"choices": [choice for one in found for choice in one["choices"]], "usage": usage | details}


async def _through(service: Service, chosen: Named, form: CompletionForm, request: Request, tenant: Tenant) -> Response:
    assert service.upstream is not None  # the route asked
    if chosen.recipe.inside or chosen.explicit:
        raise CapabilityError("a text to be continued is passed on as it is", hint="use /v1/chat/completions with this recipe")
    body = form.model_dump(exclude_unset=True) | {"model": chosen.model}
    if form.stream:
        events = service.upstream.stream("/completions", body)
        return replies.event_stream(event | {"model": form.model} async for event in events)
    found = await service.work.passed_on(tenant.id, request, service.upstream.call("/completions", body))
    return JSONResponse(found | {"model": form.model})


@router.post("/embeddings")
async def embeddings(form: EmbeddingForm, request: Request, tenant: Who) -> Response:
    """Unit vectors of texts, by this server's embedder; before an upstream, other models' names are passed on."""
    service: Service = request.app.state.service
    if form.model != service.embedder_name:
        if service.upstream is not None:
            call = service.upstream.call("/embeddings", form.model_dump(exclude_unset=True))
            return JSONResponse(await service.work.passed_on(tenant.id, request, call))
        raise ApiError(
            404,
            f"the embedding model {form.model[:100]!r} is not served here",
            hint=f"it is {service.embedder_name}",
            param="model",
            code="model_not_found",
        )
    check_known(form)
    texts = form.texts()

    def act(cancelled: threading.Event) -> Json:
        embedder = service.embedder
        if embedder is None:
            raise CapabilityError("this server has no embedder", hint='pip install "baywindow[local]"')
        if form.dimensions not in (None, embedder.dim):
            raise ApiError(400, f"these vectors have {embedder.dim} dimensions", param="dimensions", code="invalid_value")
        vectors = embedder.embed(texts)
        rows = [_encoded(row) if form.encoding_format == "base64" else [float(x) for x in row] for row in vectors]
        data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
        tokens = sum(len(text.split()) for text in texts)  # words: an embedder does not tell its tokens
        return {"object": "list", "data": data, "model": form.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    return JSONResponse(await service.work.run(tenant.id, request, act))


def _encoded(row: np.ndarray[Any, Any]) -> str:
    """As the official clients ask for it: little-endian float32 in base64."""
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")
