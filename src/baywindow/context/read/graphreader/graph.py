"""The graph: atomic facts of every chunk, and the key elements that hold facts together. Built once a run, before the question."""

from __future__ import annotations

import re
from collections import Counter
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
    text: str
    chunk: int
    elements: tuple[str, ...]  # keys


class Graph:
    """Elements are nodes; two are neighbours if a fact names both."""

    def __init__(self, chunks: Sequence[Packed], facts: Sequence[Fact], names: dict[str, str]) -> None:
        self.chunks = chunks
        self.names = names  # key → as first written
        self._facts: dict[str, list[Fact]] = {key: [] for key in names}
        self._neighbours: dict[str, Counter[str]] = {key: Counter() for key in names}
        for fact in facts:
            for key in fact.elements:
                self._facts[key].append(fact)
                self._neighbours[key].update(other for other in fact.elements if other != key)

    def facts(self, key: str) -> list[Fact]:
        return self._facts[key]

    def chunks_of(self, key: str) -> list[int]:
        """Chunks with a fact on this element, in order of their facts."""
        return list(dict.fromkeys(fact.chunk for fact in self._facts[key]))

    def neighbours(self, key: str) -> list[str]:
        """Those that share most facts first."""
        return [other for other, _ in self._neighbours[key].most_common()]

    def nearest(self, text: str) -> list[str]:
        """All elements: those first that share most words with a text, then those with most facts."""
        asked = words(text)
        return sorted(self.names, key=lambda key: (-len(asked & words(key)), -len(self._facts[key])))

    def find(self, name: str) -> str | None:
        """The element that a model names, however it writes it; None if there is none."""
        key = key_of(name)
        return key if key in self.names else None


def key_of(element: str) -> str:
    """What makes two elements the same: case, articles, punctuation and a possessive aside."""
    plain = re.sub(r"['’]s\b", "", element.casefold())
    return _ARTICLE.sub("", " ".join(re.findall(r"\w+", plain)))


def extract_prompt(run: Run, shown: Sequence[Passage]) -> Prompt:
    return messages(EXTRACT_SYSTEM, f"{fenced(run, shown)}\n\n{FACTS.wording}")


def built(capped: Capped, chunks: Sequence[Packed], how: Call) -> Graph:
    """The graph of all chunks; a chunk that the budget left unread has no facts, and is counted."""
    run = capped.run
    how = replace(how, name="extract", examples=EXTRACT_EXAMPLES, regions=all_regions(run, chunks))
    replies = ask_many(capped, [chunk.prompt for chunk in chunks], FACTS, how)
    count_unread(run, replies, "chunks")
    facts: list[Fact] = []
    names: dict[str, str] = {}
    for i, (chunk, reply) in enumerate(zip(chunks, replies, strict=True)):
        for line in reply.texts("facts") if reply is not None else []:
            text, elements = _split(line)
            keys = {key: element for element in elements if (key := key_of(element))}
            for key, element in keys.items():
                names.setdefault(key, element)
            facts.append(Fact(marked(run, text, chunk.shown), i, tuple(keys)))
    return Graph(chunks, facts, names)


def _split(line: str) -> tuple[str, list[str]]:
    """``fact | element; element``. A fact without elements is held by its own content words, so that it can be reached."""
    text, _, rest = line.partition("|")
    elements = [element.strip(" .\"'*") for element in re.split(r"[;|]", MARK.sub("", rest))]
    elements = [element for element in elements if element]
    if not elements:
        elements = list(dict.fromkeys(w for w in re.findall(r"\w+", MARK.sub("", text)) if words(w)))
    return text.strip(), elements
