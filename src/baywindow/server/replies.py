"""Outcomes in OpenAI's shapes: whole, or as the events of a stream."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import StreamingResponse

from baywindow.models.base import TokenScore
from baywindow.models.calling import Call
from baywindow.models.stopping import BROKEN
from baywindow.server.errors import told
from baywindow.server.outcome import Choice, Outcome, Said
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
    """The replies, the first one numbered ``index``, with their annotations and what was done for them."""
    choices = [_whole(head, choice, index + i) for i, choice in enumerate(outcome.choices)]
    if head.chat:
        choices[0]["message"]["annotations"] = annotations_of(outcome, file_ids)
    return {**head.of(streamed=False), "choices": choices, "usage": usage_of(outcome), "baywindow": outcome.report()}


def _whole(head: Head, choice: Choice, index: int) -> Json:
    scores = None if choice.scores is None else logprobs_of(choice.scores, chat=head.chat)
    rest = {"logprobs": scores, "finish_reason": choice.finish}
    if not head.chat:
        return {"index": index, "text": choice.text, **rest}
    message: Json = {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []}
    if choice.calls:
        message |= {"content": choice.text or None, "tool_calls": [_call(call) for call in choice.calls]}
    return {"index": index, "message": message, **rest}


def _call(call: Call) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def logprobs_of(scores: Sequence[TokenScore], *, chat: bool, before: Sequence[TokenScore] = ()) -> Json:
    """The scores of a reply's tokens, behind those ``before`` that were told, in the shape of either API."""
    if chat:
        content = [_scored(s.text, s.logprob) | {"top_logprobs": [_scored(*one) for one in s.top]} for s in scores]
        return {"content": content, "refusal": None}
    return {
        "tokens": [s.text for s in scores],
        "token_logprobs": [_finite(s.logprob) for s in scores],
        "top_logprobs": [{text: _finite(logprob) for text, logprob in s.top} for s in scores],
        "text_offset": _offsets([*before, *scores])[len(before) :],
    }


def _scored(text: str, logprob: float) -> Json:
    return {"token": text, "logprob": _finite(logprob), "bytes": None if BROKEN in text else list(text.encode())}


def _finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI writes this instead."""
    return max(logprob, -9999.0)


def _offsets(scores: Sequence[TokenScore]) -> list[int]:
    found, at = [], 0
    for score in scores:
        found.append(at)
        at += len(score.text.replace(BROKEN, ""))
    return found


class Events:
    """The events of one stream; remembers what was said of each reply."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._texts: Counter[int] = Counter()  # characters, by reply
        self._calls: Counter[int] = Counter()
        self._scores: defaultdict[int, list[TokenScore]] = defaultdict(list)  # those that were told
        self._first: list[str] = []  # texts of the first reply, for the comparison with what was checked

    def of(self, said: Said) -> Json:
        """One event with text, or with a whole call."""
        opened = self._texts[said.choice] or self._calls[said.choice]
        if said.choice == 0:
            self._first.append(said.text)
        self._texts[said.choice] += len(said.text)
        rest: Json = {"logprobs": self._told(said.choice, said.scores), "finish_reason": None}
        if not self._head.chat:
            return self._event({"index": said.choice, "text": said.text, **rest})
        delta: Json = {} if opened else {"role": "assistant"}
        if said.call is None:
            delta["content"] = said.text
        else:
            delta["tool_calls"] = [{"index": self._calls[said.choice], **_call(said.call)}]
            self._calls[said.choice] += 1
        return self._event({"index": said.choice, "delta": delta, **rest})

    def last(self, outcome: Outcome, file_ids: Mapping[str, str]) -> list[Json]:
        """The events that end the replies: why each ended, its annotations, and the scores that came with no piece; the last one says what
        was done, and the checked text where it differs from what was streamed."""
        found = []
        if not self._texts[0] and not self._calls[0] and outcome.text:
            found.append(self.of(Said(outcome.text)))
        report = outcome.report()
        if outcome.text != "".join(self._first):
            report["text"] = outcome.text
        for index, choice in enumerate(outcome.choices):
            scores = (choice.scores or ())[len(self._scores[index]) :]
            rest = {"logprobs": self._told(index, scores), "finish_reason": choice.finish}
            cited = annotations_of(outcome, file_ids) if self._head.chat and index == 0 else []
            body: Json = {"delta": {"annotations": cited} if cited else {}} if self._head.chat else {"text": ""}
            found.append(self._event({"index": index, **body, **rest}))
        found[-1]["baywindow"] = report
        return found

    def _told(self, choice: int, scores: tuple[TokenScore, ...]) -> Json | None:
        if not scores:
            return None
        before = list(self._scores[choice])
        self._scores[choice] += scores
        return logprobs_of(scores, chat=self._head.chat, before=before)

    def _event(self, choice: Json) -> Json:
        return {**self._head.of(streamed=True), "choices": [choice]}


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
