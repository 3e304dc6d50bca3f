"""Tool calls in a reply: what a model wrote, read forgivingly and as it comes.

Most open models write ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``; others write the JSON alone, in a fence or in a list.
Nothing is called that was not offered: what names no known tool stays text, tags and all. A call is data; it is parsed, never run here.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from baywindow.models.replies import json_values

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_WHOLE = ("{", "[", "`")  # a reply that begins so may be a call without tags, which shows only at its end
_ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True)
class Call:
    """One call. ``arguments`` is JSON text of an object; ``id`` has nine letters and digits, as Mistral's template demands."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: secrets.token_hex(5)[:9])

    @property
    def given(self) -> Any:
        """The arguments themselves; the text where it is no JSON."""
        try:
            return json.loads(self.arguments)
        except (ValueError, RecursionError):
            return self.arguments


class CallReader:
    """Splits a reply into text and calls, in their order, as pieces of it come. ``names`` are the tools there are."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._held = ""
        self._begun = False  # whether anything but blanks has come
        self._whole = False
        self._inside = False
        self._called = False
        self._opening = OPEN  # with the blanks before it: what is no call stays as it was written

    def push(self, text: str) -> list[str | Call]:
        """What can be told now: texts that may be shown, and calls that are complete."""
        self._held += text
        if not self._begun:
            first = self._held.lstrip()[:1]
            if not first:
                return []
            self._begun, self._whole = True, first in _WHOLE
        found: list[str | Call] = []
        while not self._whole and (step := self._step()) is not None:
            found += step
        return found

    def flush(self) -> list[str | Call]:
        """At the end of the reply. A last tag that was not closed is read all the same."""
        held, self._held = self._held, ""
        if self._inside:
            return self._calls(held) or [self._opening + held]
        if self._whole and (calls := self._calls(held)):
            return calls
        return [held] if held and (held.strip() or not self._called) else []

    def _step(self) -> list[str | Call] | None:
        """Takes the next text or call from what is held; None if more must come first."""
        mark = CLOSE if self._inside else OPEN
        before, found, after = self._held.partition(mark)
        if found:
            self._held, self._inside = after, not self._inside
            if mark is OPEN:
                text = before.rstrip()
                self._opening = before[len(text) :] + OPEN
                return [text] if text else []
            return self._calls(before) or [self._opening + before + CLOSE]
        if self._inside:
            return None
        keep = next((n for n in range(min(len(OPEN) - 1, len(before)), 0, -1) if OPEN.startswith(before[-n:])), 0)
        shown = before[: len(before) - keep].rstrip()  # blanks before a call are no text
        self._held = before[len(shown) :]
        return [shown] if shown else None

    def _calls(self, text: str) -> list[str | Call]:
        """The calls that a text consists of; none if any JSON in it is something else."""
        made = [one for value in json_values(text) for one in (value if isinstance(value, list) else [value])]
        calls: list[str | Call] = [call for one in made if (call := self._call(one)) is not None]
        self._called = self._called or bool(calls)
        return calls if len(calls) == len(made) else []

    def _call(self, made: Any) -> Call | None:
        if isinstance(made, Mapping) and isinstance(made.get("function"), Mapping):
            made = made["function"]
        if not isinstance(made, Mapping) or made.get("name") not in self._names:
            return None
        given: Any = next((made[key] for key in _ARGUMENTS if key in made), None if self._whole else {})
        if isinstance(given, str):  # some write the arguments as OpenAI does, JSON in a string
            given = next((value for value in json_values(given) if isinstance(value, dict)), None)
        return Call(str(made["name"]), json.dumps(given, ensure_ascii=False)) if isinstance(given, dict) else None
