"""The words of the bench: a `Sample` is one text with questions and gold answers, a `Task` makes samples, a `Suite` is a set of tasks.

One file in ``bench/tasks`` is one suite; its module-level ``SUITE`` is all that the rest of the bench looks at. A scorer is a function
from a reply and the `Turn` it answers to a number from 0 to 1, found by its name: `metric` puts it on the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.documents.base import Document
from baywindow.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One question, the answers it accepts, and how a reply is scored. What ``gold`` means is the scorer's to say.

    ``answer_prefix`` is how the published task makes the model begin its answer; it belongs after the chat template's assistant mark.
    """

    question: str
    gold: tuple[str, ...]
    scorer: str
    max_new_tokens: int = 128
    answer_prefix: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One measurement: documents, a question, its gold. ``turns`` are further questions asked of the same documents, in order.

    ``instruction`` stands before the documents in the published prompt. ``metadata`` is plain JSON data: task, tokens (measured, of the
    prompt), length (asked for), seed, and where they apply depth (0 to 1) and what else the task varies; ``finds`` where what is
    found is scored, and no reply is written.
    """

    id: str
    documents: tuple[Document, ...]
    question: str
    gold: tuple[str, ...]
    scorer: str
    turns: tuple[Turn, ...] = ()
    instruction: str = ""
    answer_prefix: str = ""
    max_new_tokens: int = 128
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> tuple[Turn, ...]:
        """The first question and all that follow it, as turns."""
        first = Turn(
            question=self.question,
            gold=self.gold,
            scorer=self.scorer,
            max_new_tokens=self.max_new_tokens,
            answer_prefix=self.answer_prefix,
            metadata=self.metadata,
        )
        return (first, *self.turns)

    @property
    def context(self) -> str:
        """The documents as the published prompt joins them."""
        return "\n\n".join(d.text for d in self.documents)

    @property
    def prompt(self) -> str:
        """The published prompt in one piece, without the answer prefix: instruction, documents, question. Its length is the sample's."""
        return "\n".join(part for part in (self.instruction, self.context, self.question) if part)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a generated sample is to be. ``tokens`` is the length of `Sample.prompt` by ``counter``; ``options`` are the task's own."""

    tokens: int
    seed: int
    counter: TokenCounter
    haystack: Haystack
    depth: float | None = None  # 0 to 1; None lets the seed choose, where the task has a depth
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a suite. ``name`` is ``suite.task``; ``options`` are what may be varied, with their defaults."""

    name: str
    summary: str
    scorer: str
    max_new_tokens: int = 128
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def generated(self) -> bool:
        return isinstance(self, Generated)


@dataclass(frozen=True, kw_only=True)
class Generated(Task):
    """Samples of any length from ``min_tokens`` on, a pure function of the order: same order, same sample, in every process."""

    build: Callable[[Order], Sample]
    min_tokens: int = 512
    has_depth: bool = False

    def sample(self, order: Order) -> Sample:
        """One sample; ConfigError for a length below ``min_tokens`` or an option the task does not have."""
        if order.tokens < self.min_tokens:
            raise ConfigError(
                f"{self.name} needs at least {self.min_tokens} tokens, not {order.tokens}", hint="`bay bench tasks` lists minimums"
            )
        if unknown := set(order.options) - set(self.options):
            raise ConfigError(f"{self.name} has no option {sorted(unknown)[0]!r}", hint="it has " + (", ".join(self.options) or "none"))
        return self.build(order)


@dataclass(frozen=True, kw_only=True)
class Loaded(Task):
    """Samples of a public set: from a local file or folder, else by its name from the hub where that can be reached.

    ``load(path)`` yields samples in the set's order; ``path`` is None when the user named none.
    """

    load: Callable[[Path | None], Iterator[Sample]]
    where: str = ""  # what to put where, for the message when nothing is there


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A published benchmark: what it is, what it claims, and its tasks."""

    name: str
    summary: str
    tasks: tuple[Task, ...]
    paper: str = ""
    year: int = 0
    claim: str = ""
    departures: tuple[str, ...] = ()


Scorer = Callable[[str, Turn], float]
SCORERS: dict[str, Scorer] = {}


def metric(function: Scorer) -> Scorer:
    """Put a scorer on the list under its own name. Two of one name are a mistake of ours, found at import."""
    name = function.__name__
    if name in SCORERS and SCORERS[name].__module__ != function.__module__:
        raise ConfigError(f"two scorers are called {name!r}: in {function.__module__} and {SCORERS[name].__module__}")
    SCORERS[name] = function
    return function
