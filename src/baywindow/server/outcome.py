"""What came of a request, and the pieces of it that are told while it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from baywindow.budget import Usage
from baywindow.models.base import Completion, ScoredText, TokenScore
from baywindow.models.calling import Call, CallReader
from baywindow.trace import Citation, Region, Step, Trace


@dataclass(frozen=True)
class Said:
    """A piece of one of the replies: text, with the scores of the tokens that end in it, or a call that is complete."""

    text: str = ""
    call: Call | None = None
    choice: int = 0
    scores: tuple[TokenScore, ...] = ()


Hear = Callable[[Said], None]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One reply. ``finish`` is OpenAI's word."""

    text: str
    finish: str
    calls: tuple[Call, ...] = ()
    scores: tuple[TokenScore, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The replies with their evidence. ``tokens_in`` is the size of what the request held."""

    choices: tuple[Choice, ...]
    usage: Usage
    trace: Trace
    tokens_in: int
    read: Literal["direct", "recipe", "shortened"]
    citations: tuple[Citation, ...] = ()
    found: bool = True
    cached_tokens: int = 0  # of all calls, that an earlier request had the model read

    @property
    def text(self) -> str:
        return self.choices[0].text

    @property
    def regions(self) -> list[Region]:
        return [region for step in self.trace.steps for region in step.regions]

    def report(self) -> dict[str, Any]:
        """The ``baywindow`` field of a response."""
        kept = {(r.source, r.start, r.end): r.tokens for r in self.regions if r.kind == "passage" and r.fate == "kept"}
        tokens_kept = self.tokens_in if self.read == "direct" else sum(kept.values())
        return {
            "model": self.trace.model,
            "recipe": self.trace.recipe,
            "recipe_hash": self.trace.recipe_hash,
            "read": self.read,
            "found": self.found,
            "tokens_in": self.tokens_in,
            "tokens_kept": tokens_kept,
            "tokens_left_out": max(0, self.tokens_in - tokens_kept),
            "calls": self.usage.calls,
            "seconds": round(self.usage.seconds, 3),
            "estimated": self.usage.estimated,
            "cache_hit": self.cached_tokens > 0,
            "tokens_cached": self.cached_tokens,
            "notes": list(self.trace.notes),
            "steps": [_step(step) for step in self.trace.steps],
        }


class Speaker:
    """Tells the pieces of one reply, its calls apart from its text, and remembers them."""

    def __init__(self, hear: Hear, choice: int, tools: tuple[dict[str, Any], ...], *, one_call: bool) -> None:
        self._hear, self._choice, self._one_call = hear, choice, one_call
        self._reader = CallReader(tool["function"]["name"] for tool in tools) if tools else None
        self._texts: list[str] = []
        self._calls: list[Call] = []

    def push(self, text: str) -> None:
        if self._reader is None:
            self._tell([text] if text else [])
        else:
            self._tell(self._reader.push(text))

    def end(self, done: Completion, *, scored: bool) -> Choice:
        """The whole reply."""
        self._tell(self._reader.flush() if self._reader is not None else [])
        finish = "tool_calls" if self._calls else finish_of(done)
        return Choice(text="".join(self._texts), finish=finish, calls=tuple(self._calls), scores=done.scores if scored else None)

    def _tell(self, found: list[str | Call]) -> None:
        for said in found:
            if isinstance(said, str):
                self._texts.append(said)
                scores = said.scores if isinstance(said, ScoredText) else ()
                self._hear(Said(said, choice=self._choice, scores=scores))
            elif not (self._one_call and self._calls):
                self._calls.append(said)
                self._hear(Said(call=said, choice=self._choice))


def finish_of(done: Completion) -> str:
    """In OpenAI's words; a deadline cuts a reply off as a limit does."""
    return "stop" if done.finish == "stop" else "length"


def _step(step: Step) -> dict[str, Any]:
    shown = ("name", "calls", "tokens_in", "tokens_out", "note")
    regions = [{k: getattr(r, k) for k in ("kind", "tokens", "fate", "source", "start", "end")} for r in step.regions]
    return {**{name: getattr(step, name) for name in shown}, "seconds": round(step.seconds, 3), "regions": regions}
