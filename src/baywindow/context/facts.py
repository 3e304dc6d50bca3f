"""Atomic facts of a text and the key elements that hold them together, as a model takes them from its chunks.

GraphReader's extraction (arXiv:2406.14550). Its graph and that of `g_retriever` are made of these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from baywindow.context.capped import Capped
from baywindow.context.cite import MARK, words
from baywindow.context.parts import all_regions, count_unread, marked
from baywindow.context.prompt import DATA_RULE, Packed, fenced, messages
from baywindow.context.run import Call, Run
from baywindow.context.structured import Field, Form, ask_many
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt

FACTS = Form((Field(name="facts", about="fact [number] | element; element", kind="texts"),), rest="facts")
EXTRACT_SYSTEM = (
    "Break the passages into atomic facts: short statements that can be understood alone, with names instead of pronouns. Behind each "
    "fact put the number of its passage, like [1], then a | and its key elements (people, places, dates, things), separated by ; "
    f"{DATA_RULE}"
)
EXTRACT_EXAMPLES = (
    (
        "<passage [1] from harbour.txt:1>\nThe pier was closed in 1987. Ida had built it.\n</passage>",
        '{"facts": ["The pier was closed in 1987. [1] | pier; 1987", "Ida had built the pier. [1] | Ida; pier"]}',
    ),
)
_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Fact:
    """``text`` with the mark of its passage, and its key elements as they were written, by key."""

    text: str
    elements: dict[str, str]

    @property
    def line(self) -> str:
        """One line, as `fact_of` reads it."""
        return " ".join(f"{self.text} | {'; '.join(self.elements.values())}".split())


def key_of(element: str) -> str:
    """What makes two elements the same: case, articles, punctuation and a possessive aside."""
    plain = re.sub(r"['’]s\b", "", element.casefold())
    return _ARTICLE.sub("", " ".join(re.findall(r"\w+", plain)))


def extract_prompt(run: Run, shown: Sequence[Passage]) -> Prompt:
    return messages(EXTRACT_SYSTEM, f"{fenced(run, shown)}\n\n{FACTS.wording}")


def extracted(capped: Capped, chunks: Sequence[Packed], how: Call) -> list[list[Fact] | None]:
    """The facts of every chunk; None for those that the budget left unread, which are counted."""
    run = capped.run
    how = replace(how, name="extract", examples=EXTRACT_EXAMPLES, regions=all_regions(run, chunks))
    replies = ask_many(capped, [chunk.prompt for chunk in chunks], FACTS, how)
    count_unread(run, replies, "chunks")
    return [
        None if reply is None else [_marked(run, fact_of(line), chunk.shown) for line in reply.texts("facts")]
        for chunk, reply in zip(chunks, replies, strict=True)
    ]


def fact_of(line: str) -> Fact:
    """From ``fact | element; element``. A fact without elements is held by its own content words, so that it can be reached."""
    text, _, rest = line.partition("|")
    elements = [element.strip(" .\"'*") for element in re.split(r"[;|]", MARK.sub("", rest))]
    elements = [element for element in elements if element]
    if not elements:
        elements = list(dict.fromkeys(w for w in re.findall(r"\w+", MARK.sub("", text)) if words(w)))
    keys: dict[str, str] = {}
    for element in elements:
        if key := key_of(element):
            keys[key] = element
    return Fact(text.strip(), keys)


def _marked(run: Run, fact: Fact, shown: Sequence[Passage]) -> Fact:
    return replace(fact, text=marked(run, fact.text, shown))
