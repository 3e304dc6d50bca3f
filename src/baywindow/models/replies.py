"""Finding JSON in what a model wrote: small models wrap it in prose, in fences, or think aloud before it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_MOST_OBJECTS = 50  # of a reply, that are tried as JSON


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
