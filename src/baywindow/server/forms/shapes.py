"""What a chat request asks of the reply's form: tools it may call, a JSON schema, several replies, scores of its tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from baywindow.models.calling import Call
from baywindow.server.errors import ApiError

MOST_TOOLS = 128
MOST_CHOICES = 16
ANY_OBJECT = {"type": "object"}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
Json = dict[str, Any]


def unsupported(param: str, message: str, hint: str = "put the server before one that can: --upstream URL") -> ApiError:
    return ApiError(400, message, hint=hint, param=param, code="unsupported_parameter")


def checked_tools(tools: list[Json]) -> tuple[Json, ...]:
    """Functions, each with a name of its own. 400 for anything else."""
    names: set[str] = set()
    for i, tool in enumerate(tools):
        where = f"tools[{i}]"
        if tool.get("type") != "function":
            raise unsupported(f"{where}.type", f"tools of the type {str(tool.get('type'))[:40]!r} are not supported: function is")
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not _NAME.fullmatch(name) or name in names:
            raise _bad(f"{where}.function.name", "a name of its own, of letters, digits, _ and -, at most 64")
        if not isinstance(function.get("description") or "", str) or not isinstance(function.get("parameters") or {}, dict):
            raise _bad(f"{where}.function", "a description is text, parameters are a JSON schema")
        names.add(name)
    if len(tools) > MOST_TOOLS:
        raise _bad("tools", f"at most {MOST_TOOLS}")
    _check_text("tools", tools)
    return tuple(tools)


def forced_call(tools: tuple[Json, ...], choice: str | Json | None) -> Json | None:
    """The schema that a reply is held to where it must call a tool; None where it may."""
    if choice in (None, "auto", "none"):
        return None
    named = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    wanted = {named.get("name")} if isinstance(named, dict) else {tool["function"]["name"] for tool in tools if choice == "required"}
    functions = [tool["function"] for tool in tools if tool["function"]["name"] in wanted]
    if not functions:
        raise _bad("tool_choice", "none, auto, required, or one of the functions by its name")
    return {"anyOf": [_call_schema(function) for function in functions]}


def _call_schema(function: Json) -> Json:
    properties = {"name": {"const": function["name"]}, "arguments": function.get("parameters") or ANY_OBJECT}
    return {"type": "object", "properties": properties, "required": ["name", "arguments"], "additionalProperties": False}


def schema_of(response_format: Json | None) -> Json | None:
    """The schema of a response format; None for plain text."""
    kind = (response_format or {}).get("type", "text")
    if response_format is None or kind == "text":
        return None
    if kind == "json_object":
        return ANY_OBJECT
    described = response_format.get("json_schema") if kind == "json_schema" else None
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise _bad("response_format", "text, json_object, or json_schema with a schema")
    _check_text("response_format", schema)
    return schema


def call_of(sent: Mapping[str, Any]) -> Call | None:
    """An earlier call as it was sent back; None for what is no call of a function."""
    function = sent.get("function")
    if not isinstance(function, Mapping) or not isinstance(sent.get("id"), str):
        return None
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, str):
        return None
    _check_text("messages", dict(sent))
    return Call(name, arguments, sent["id"])


def _check_text(param: str, value: Any) -> None:
    """JSON may hold half a surrogate pair, which no text is."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        raise _bad(param, "valid Unicode, not nested too deeply") from None


def _bad(param: str, allowed: str) -> ApiError:
    return ApiError(400, f"Invalid value for '{param}': {allowed}", param=param, code="invalid_value")
