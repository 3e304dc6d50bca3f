"""The graph: atomic facts of every chunk, and the key elements that hold facts together. Built once a run, before the question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from baywindow.context.capped import Capped
from baywindow.context.cite import words
from baywindow.context.facts import extracted, key_of
from baywindow.context.prompt import Packed
from baywindow.context.run import Call


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


def built(capped: Capped, chunks: Sequence[Packed], how: Call) -> Graph:
    """The graph of all chunks; a chunk that the budget left unread has no facts."""
    facts: list[Fact] = []
    names: dict[str, str] = {}
    for i, found in enumerate(extracted(capped, chunks, how)):
        for fact in found or []:
            for key, element in fact.elements.items():
                names.setdefault(key, element)
            facts.append(Fact(fact.text, i, tuple(fact.elements)))
    return Graph(chunks, facts, names)
