"""`POST /v1/chat/completions`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from baywindow.models.base import LanguageModel, Role, Sampling
from baywindow.models.calling import Call
from baywindow.server.conversation import Turn
from baywindow.server.errors import ApiError
from baywindow.server.forms.base import Examples, Form, Metadata, NewTokens, Seed, Stop, Text, pairs, refuse, stops
from baywindow.server.forms.shapes import MOST_CHOICES, call_of, checked_tools, forced_call, schema_of, unsupported

_ROLES: dict[str, Role] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Fields with the values that change nothing; any other value is refused by a model that runs here.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logit_bias": (),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "functions": (),
    "function_call": ("none",),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "web_search_options": (),
}


class FileReference(Form):
    """An upload by its id, or the file itself as base64 (a data URL will do)."""

    file_id: str | None = None
    file_data: str | None = None
    filename: Text | None = None


class Part(Form):
    """A piece of a message."""

    type: Literal["text", "file", "image_url", "input_audio", "refusal"]
    text: Text | None = None
    file: FileReference | None = None
    image_url: dict[str, Any] | None = None
    input_audio: dict[str, Any] | None = None
    refusal: Text | None = None


class ChatMessage(Form):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: Text | list[Part] | None = None
    name: Text | None = None
    refusal: Text | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    function_call: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] | None = None


class StreamOptions(Form):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatForm(Form):
    model: Text
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: NewTokens | None = None
    max_completion_tokens: NewTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    modalities: list[str] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    # Known to OpenAI, and without effect here.
    user: Text | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    prompt_cache_retention: str | None = None
    # Baywindow's own: see `Sampling.examples`.
    examples: Examples | None = None

    @property
    def new_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def shaped(self) -> bool:
        """Whether the reply is to have what only the model's own words can have (see `Task.shaped`)."""
        return bool(self.model_tools() or self.response_format or self.logprobs or self.choices > 1)

    def plain_sampling(self, seconds: float) -> Sampling:
        """Greedy unless a temperature is given, or several replies are asked for: one that can be had again is worth more than variety."""
        return Sampling(
            temperature=self.temperature if self.temperature is not None else float(self.choices > 1),
            top_p=self.top_p or 1.0,
            seed=self.seed or 0,
            stop=stops(self.stop),
            seconds=seconds,
            examples=pairs(self.examples),
        )

    def sampling(self, seconds: float) -> Sampling:
        """With the form that the reply is to have, for a model that runs here."""
        tools = checked_tools(self.model_tools()) if self.tool_choice != "none" else ()
        return replace(
            self.plain_sampling(seconds),
            json_schema=forced_call(tools, self.tool_choice) if tools else schema_of(self.response_format),
            tools=tools,
            logprobs=self.top_logprobs or 0 if self.logprobs else None,
        )

    def model_tools(self) -> list[dict[str, Any]]:
        """The tools that the model is to see: all but file_search, which is done here."""
        return [tool for tool in self.tools or () if tool.get("type") != "file_search"]

    def vector_store_id(self) -> str | None:
        """The store that a file_search tool names; one at most."""
        found: list[str] = []
        for i, tool in enumerate(self.tools or ()):
            if tool.get("type") == "file_search":
                ids = tool.get("vector_store_ids")
                if not isinstance(ids, list) or not ids or not all(isinstance(x, str) for x in ids):
                    raise ApiError(
                        400, f"Invalid value for 'tools[{i}].vector_store_ids': a list of ids", param=f"tools[{i}].vector_store_ids"
                    )
                found += ids
        if len(set(found)) > 1:
            raise ApiError(400, "a question is asked of one vector store", hint="put the files into one store", param="tools")
        return found[0] if found else None

    def turns(self, *, tools: bool) -> tuple[Turn, ...]:
        """The messages as text; those without any are left out. Where the model knows no ``tools``, calls are left out too, and what they
        returned is a user's message."""
        calls = {call.id: call for m in self.messages for call in _calls(m)} if tools else {}
        found = []
        for i, m in enumerate(self.messages):
            role = _ROLES[m.role]
            if role == "tool":
                found.append(Turn("tool" if tools else "user", _texts(m, i), answers=calls.get(m.tool_call_id or "")))
            else:
                found.append(Turn(role, _texts(m, i), calls=_calls(m) if tools else ()))
        kept = tuple(turn for turn in found if turn.text.strip() or turn.calls or turn.role == "tool")
        if not any(turn.role == "user" for turn in kept) and not self.files():
            raise ApiError(400, "there is no user message with text", hint="end with what you ask", param="messages", code="invalid_value")
        return kept

    def files(self) -> list[FileReference]:
        return [p.file for m in self.messages if isinstance(m.content, list) for p in m.content if p.type == "file" and p.file is not None]


def refuse_unsupported(form: ChatForm, model: LanguageModel) -> None:
    """Raise for what this model, which runs here, cannot follow."""
    refuse(form, _NEUTRAL, "is not supported by a model that runs here")
    has_tools = bool(form.model_tools()) and form.tool_choice != "none"
    if has_tools and "tools" not in model.capabilities:
        raise unsupported("tools", "this model takes no tools", "put the server before one that does: --upstream URL")
    schema = schema_of(form.response_format)
    if has_tools and schema is not None:
        raise unsupported("response_format", "a reply that may call tools cannot be held to a response format", "leave one of them out")
    forced = has_tools and form.tool_choice not in (None, "auto")
    if (schema is not None or forced) and not model.follows_schema:
        param = "tool_choice" if forced else "response_format"
        raise unsupported(param, f"this model cannot be held to a {'call' if forced else 'response format'}")
    if form.logprobs and not model.scores_replies:
        raise unsupported("logprobs", "this model tells no scores of its replies")
    if form.top_logprobs and not form.logprobs:
        raise ApiError(400, "Invalid value for 'top_logprobs': only with logprobs", param="top_logprobs", code="invalid_value")
    if form.choices > MOST_CHOICES:
        raise ApiError(400, f"Invalid value for 'n': at most {MOST_CHOICES} here", param="n", code="invalid_value")


def _calls(message: ChatMessage) -> tuple[Call, ...]:
    return tuple(call for sent in message.tool_calls or () if (call := call_of(sent)) is not None)


def _texts(message: ChatMessage, index: int) -> tuple[str, ...]:
    if message.content is None or isinstance(message.content, str):
        return (message.content,) if message.content else ()
    found = []
    for i, part in enumerate(message.content):
        if part.type in ("image_url", "input_audio"):
            raise ApiError(
                400,
                f"{part.type} is not supported: this model reads text",
                param=f"messages[{index}].content[{i}]",
                code="unsupported_parameter",
            )
        found.append(part.text or part.refusal or "")
    return tuple(filter(None, found))
