"""Outcomes in OpenAI's shapes: whole, or as the events of a stream."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import StreamingResponse

from baywindow.server.answering import Outcome
from baywindow.server.errors import told
from baywindow.trace import Citation

Json = dict[str, Any]
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # a proxy that collects a stream makes it none


@dataclass(frozen=True, kw_only=True)
class Head:
    """What all events of one reply share. ``chat`` tells the two APIs apart."""

    model: str
    chat: bool = True
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def of(self, *, streamed: bool) -> Json:
        kind = "chat.completion" if self.chat else "text_completion"
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": kind + (".chunk" if streamed and self.chat else ""),
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }


def usage_of(outcome: Outcome) -> Json:
    """Tokens of all calls together: what the reply cost. What the request held is in the ``baywindow`` field."""
    used = outcome.usage
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.generated_tokens,
        "total_tokens": used.tokens,
        "prompt_tokens_details": {"cached_tokens": outcome.cached_tokens},
    }


def annotations_of(outcome: Outcome, file_ids: Mapping[str, str]) -> list[Json]:
    """A citation for every mark of it in the text; ``file_ids`` by source, for those that are uploads."""
    found = []
    for citation in outcome.citations:
        for mark in re.finditer(rf"\[{citation.n}\]", outcome.text):
            found.append(_annotation(citation, file_ids.get(citation.source), mark.span()))
    return found


def _annotation(citation: Citation, file_id: str | None, span: tuple[int, int]) -> Json:
    cited = {
        "file_id": file_id,
        "filename": citation.source,
        "quote": citation.quote,
        "verified": citation.verified,
        "start": citation.start,
        "end": citation.end,
        "line": citation.line,
        "page": citation.page,
        "label": citation.label,
    }
    return {"type": "file_citation", "text": f"[{citation.n}]", "start_index": span[0], "end_index": span[1], "file_citation": cited}


def whole(head: Head, outcome: Outcome, file_ids: Mapping[str, str], index: int = 0) -> Json:
    """One reply, with its annotations and what was done for it."""
    if head.chat:
        message = {"role": "assistant", "content": outcome.text, "refusal": None, "annotations": annotations_of(outcome, file_ids)}
        choice: Json = {"index": index, "message": message, "logprobs": None, "finish_reason": outcome.finish}
    else:
        choice = {"index": index, "text": outcome.text, "logprobs": None, "finish_reason": outcome.finish}
    return {**head.of(streamed=False), "choices": [choice], "usage": usage_of(outcome), "baywindow": outcome.report()}


def piece(head: Head, text: str, *, first: bool) -> Json:
    """One event with text."""
    if not head.chat:
        choice: Json = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
    else:
        delta = {"role": "assistant", "content": text} if first else {"content": text}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return {**head.of(streamed=True), "choices": [choice]}


def last(head: Head, outcome: Outcome, file_ids: Mapping[str, str], said: str) -> Json:
    """The event that ends a reply: why it ended, its annotations, and the checked text where it differs from what was streamed."""
    report = outcome.report()
    if said != outcome.text:
        report["text"] = outcome.text
    if head.chat:
        cited = annotations_of(outcome, file_ids)
        choice: Json = {"index": 0, "delta": {"annotations": cited} if cited else {}, "logprobs": None, "finish_reason": outcome.finish}
    else:
        choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": outcome.finish}
    return {**head.of(streamed=True), "choices": [choice], "baywindow": report}


def spent(head: Head, outcome: Outcome) -> Json:
    """The event with the usage, for those who asked for it."""
    return {**head.of(streamed=True), "choices": [], "usage": usage_of(outcome)}


def event_stream(events: AsyncIterator[Json]) -> StreamingResponse:
    """Server-sent events. A failure in the middle is an event with an error, and no ``[DONE]`` follows: nobody takes it for an end."""

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for event in events:
                yield _line(event)
        except Exception as error:  # the status has been sent; the client must learn of it here
            yield _line(told(error)[1])
            return
        yield b"data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers=_HEADERS)


def _line(event: Json) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
