"""StruXGPT: the same text under headings, so that a model sees how it is built.

Paper: Liu 2024, Enhancing LLM's Cognition via Structurization, arXiv 2407.16434; reference code alibaba/struxgpt was read.

Idea: one call names a passage's scope and its few main aspects, and says which sentences belong to each. The reader gets scope,
aspects and sentences instead of the flat passage.

Departs: see the card.

Shapes and units: ``budget_tokens`` of the target model for all passages; headings of at most ``heading_tokens`` for each.
Cost: one call a passage that fits the budget; about as many tokens out as the headings have.
Errors: ConfigError for an option out of range.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from baywindow.budget import Budgeted
from baywindow.context.base import Compressor
from baywindow.context.compress._budget import say_dropped, share, tokens_of
from baywindow.context.compress._units import sentences
from baywindow.context.compress._written import at_most
from baywindow.context.condensed import Condensed, Span, cited, written
from baywindow.context.later import answer_reserve
from baywindow.context.prompt import DATA_RULE, defused, messages
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.models.base import Prompt
from baywindow.registry import technique

SYSTEM = (
    "Give the structure of the numbered sentences. First line: Scope: what the text is about, in a few words. Then one line for each "
    "main aspect, two to four of them: its name, a colon, and the numbers of its sentences. Every sentence belongs to one aspect. "
    f"Write nothing else. {DATA_RULE}"
)
EXAMPLES = (
    (
        "1. The pier was built in 1871.\n2. It is 300 metres long.\n3. A storm damaged it in 1987.\n4. It was closed the same year.",
        "Scope: the old pier\nConstruction: 1-2\nEnd: 3-4",
    ),
)
_LINE = re.compile(r"^\s*(?:[-*•]|\d+[.)])?\s*(?P<name>[^:\n]{1,80}?)\s*:\s*(?P<numbers>\d[\d\s,;–-]*(?:and\s+\d+)?)[.\s]*$")
_SCOPE = re.compile(r"^\W*scope\W*:\s*(?P<scope>.+)$", re.IGNORECASE)
MOST_SENTENCES = 40


@dataclass(frozen=True)
class Structure:
    """A scope and aspects, each with the numbers (from 0) of its sentences."""

    scope: str
    aspects: tuple[tuple[str, tuple[int, ...]], ...]


@technique(
    summary="the passage under headings: its scope, its aspects, and the sentences of each",
    paper="2407.16434",
    year=2024,
    claim="The same reader answers better from scope, aspects and details than from the flat passage of about the same length.",
    departures=(
        "aspects name sentences by number and these stay word for word, as in the authors' second version; the first version paraphrases",
        "a sentence that no aspect names goes to the aspect of the sentence before it (the authors' repair inserts it by word overlap)",
        "two levels, not nested: small models keep to them",
        "it does not shorten by itself: passages are kept best first within the budget, and the rest is dropped",
        "a reply that does not parse leaves the passage as it is",
    ),
)
class Struxgpt(Budgeted, Compressor):
    default_budget_tokens: ClassVar[int] = 2048

    heading_tokens: int = 64
    least_sentences: int = 3  # a shorter passage needs no structure

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heading_tokens < 8:
            raise ConfigError.bad_value("heading_tokens", self.heading_tokens, "at least 8")
        if self.least_sentences < 2:
            raise ConfigError.bad_value("least_sentences", self.least_sentences, "at least 2")

    def compress(self, run: Run, passages: list[Passage]) -> list[Passage]:
        given, budget = share(run, self, passages)
        fitting = _fitting(run, passages, budget)
        structures = self._structures(run, fitting)
        kept: list[Passage] = []
        left = budget - tokens_of(run, fitting)
        for passage, structure in zip(fitting, structures, strict=True):
            made = passage if structure is None else structured(passage, structure)
            extra = tokens_of(run, [made]) - tokens_of(run, [passage])
            if made is not passage and extra > left:  # headings give way to text
                made, extra = passage, 0
            left -= extra
            kept.append(made)
        if tokens_of(run, fitting) < given:
            say_dropped(run, self.card.name, given, passages, kept)
        return kept

    def _structures(self, run: Run, passages: list[Passage]) -> list[Structure | None]:
        found: list[Structure | None] = [None] * len(passages)
        asked = [i for i, p in enumerate(passages) if self.least_sentences <= len(sentences(p.text)) <= MOST_SENTENCES]
        asked = [i for i in asked if not isinstance(passages[i], Condensed)]
        if not asked:
            return found
        how = Call(name="structure", max_new_tokens=self.heading_tokens, keep=answer_reserve(run), examples=EXAMPLES)
        replies = run.call_many([prompt_of(passages[i].text) for i in asked], how)
        for i, reply in zip(asked, replies, strict=True):
            found[i] = None if reply is None else parsed(reply, len(sentences(passages[i].text)))
        if plain := sum(found[i] is None for i in asked):
            run.note(f"struxgpt left {plain} of {len(asked)} passages as they were: no structure was given for them")
        return found


def prompt_of(text: str) -> Prompt:
    numbered = "\n".join(f"{n}. {' '.join(defused(text[a:b]).split())}" for n, (a, b) in enumerate(sentences(text), 1))
    return messages(SYSTEM, numbered)


def parsed(reply: str, count: int) -> Structure | None:
    """The structure that a reply names, completed so that every one of ``count`` sentences occurs once; None if it names none."""
    scope = ""
    owner: dict[int, int] = {}
    names: list[str] = []
    for line in reply.splitlines():
        if match := _SCOPE.match(line):
            scope = scope or match["scope"].strip().rstrip(".")
        elif match := _LINE.match(line):
            numbers = [n for n in _numbers(match["numbers"]) if n < count and n not in owner]
            if numbers:
                names.append(match["name"].strip(" *_"))
                owner |= dict.fromkeys(numbers, len(names) - 1)
    if not names:
        return None
    for n in range(count):
        owner.setdefault(n, owner.get(n - 1, min(owner.items())[1]))
    aspects = tuple((name, tuple(n for n in range(count) if owner[n] == i)) for i, name in enumerate(names))
    return Structure(scope, aspects)


def structured(passage: Passage, structure: Structure) -> Condensed:
    """The passage's sentences under headings. It is `written`, for headings are; its pieces are the sentences in the document's order."""
    spans = sentences(passage.text)
    lines = [f"Scope: {structure.scope}"] if structure.scope else []
    for name, numbers in structure.aspects:
        lines.append(f"{name}:")
        lines += [f"- {' '.join(passage.text[slice(*spans[n])].split())}" for n in numbers]
    start = cited(passage).start
    pieces: list[Span] = [(start + a, start + b) for a, b in spans]
    return written(passage, "\n".join(lines), pieces)


def _numbers(text: str) -> list[int]:
    """Numbers from 0 that ``1-3, 5`` (from 1) names."""
    found: list[int] = []
    for first, last in re.findall(r"(\d{1,3})(?:\s*[–-]\s*(\d{1,3}))?", text):
        found += range(int(first) - 1, int(last or first))
    return [n for n in found if n >= 0]


def _fitting(run: Run, passages: list[Passage], budget: int) -> list[Passage]:
    """Whole passages from the front while they fit, and the beginning of the next."""
    kept: list[Passage] = []
    for passage in passages:
        part = at_most(run, passage, budget)
        if part is None:
            break
        kept.append(part)
        budget -= tokens_of(run, [part])
        if part is not passage:
            break
    return kept
