"""Finding JSON in what a model wrote: small models wrap it in prose, in fences, think aloud before it, or do not come to an end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_MOST_OBJECTS = 50  # of a reply, that are tried as JSON
_COMMA_TOO_MANY = re.compile(r",(?=\s*[}\]])")


def without_thought(reply: str) -> str:
    """A reply without the thinking that some models put before it."""
    return _THOUGHT.sub("", reply).strip()


def json_values(reply: str) -> Iterator[dict[str, Any] | list[Any]]:
    """JSON objects and lists in a reply, outermost and first ones first; a list of numbers alone is a citation mark and left out."""
    decoder = json.JSONDecoder(strict=False)
    end = 0
    for match in list(re.finditer(r"[{\[]", reply))[:_MOST_OBJECTS]:
        if match.start() < end:
            continue
        try:
            made, end = decoder.raw_decode(reply, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(made, dict) or (isinstance(made, list) and any(isinstance(v, str | dict | list) for v in made)):
            yield made


def unfinished_value(reply: str) -> Any | None:
    """What there is of a reply's JSON when it breaks off, or has a comma before a closing bracket; None if it is no JSON even so.

    A model that is held to a list and has written a comma cannot close it any more, and goes on until its tokens are used up. What was
    being written at the end is left out, and the object around it lacks a part.
    """
    start = re.search(r"[{\[]", reply)
    if start is None:
        return None
    try:
        return from_json(_COMMA_TOO_MANY.sub("", reply[start.start() :]), allow_partial=True)
    except ValueError:
        return None
