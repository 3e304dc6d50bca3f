"""What happened: the record that the answer, `--trace`, the bench and the Studio's context strip all show.

Offsets are characters of a document's extracted text. Tokens are the target model's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from baywindow.budget import Usage

RegionKind = Literal["system", "memory", "passage", "question", "other"]
Fate = Literal["kept", "compressed", "retrieved", "cached", "evicted", "left_out"]


@dataclass(frozen=True, kw_only=True)
class Region:
    """One stretch of context and what became of it. ``source`` is None for text that comes from no document."""

    kind: RegionKind
    tokens: int
    fate: Fate
    source: str | None = None
    start: int = 0
    end: int = 0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of a run: ``name`` is the technique's or the role's (``worker 3``); ``regions`` are what its prompts were made of."""

    name: str
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    regions: tuple[Region, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Citation:
    """Where a mark ``[n]`` leads. Exactly one of ``line`` and ``page`` is set (both count from 1).

    ``verified`` says that ``quote`` is what the source holds from ``start`` to ``end``, read again after the answer was made.
    """

    n: int
    source: str
    start: int
    end: int
    quote: str
    verified: bool
    line: int | None = None
    page: int | None = None
    label: str = ""  # heading, slide or sheet, where the format has one

    @property
    def place(self) -> str:
        """``path:line``, or ``path, page N``, with the heading, slide or sheet behind it."""
        where = f"{self.source}, page {self.page}" if self.page is not None else f"{self.source}:{self.line}"
        return f"{where} ({self.label})" if self.label else where


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a listener hears while a run goes on.

    ``token``: a piece of the answer's text. ``passages``: what the recipe's early stages chose (``passages`` in order, best first).
    ``step``: a finished `Step`. ``note``: a remark for a person. ``progress``: long work under way, in words.
    """

    kind: Literal["token", "passages", "step", "note", "progress"]
    text: str = ""
    step: Step | None = None
    passages: tuple[Any, ...] = ()  # of documents.base.Passage, which this ground-floor module may not import


@dataclass(frozen=True, kw_only=True)
class Trace:
    """All steps in order, and every remark a person should see (what was left out, what was cut short, and why)."""

    recipe: str = ""
    recipe_hash: str = ""
    model: str = ""
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer with its evidence and its cost. ``found`` is False when the documents do not hold the answer."""

    text: str
    citations: tuple[Citation, ...] = ()
    usage: Usage = field(default_factory=Usage)
    trace: Trace = field(default_factory=Trace)
    found: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `bay ask --json` prints it (the schema is in the docs)."""
        return asdict(self)
