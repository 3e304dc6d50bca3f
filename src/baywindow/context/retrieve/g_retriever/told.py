"""A graph made of the documents themselves: GraphReader's key elements are its nodes, its facts the edges between them.

A fact with several elements is an edge from the first to each other one; they have its words, so they share one prize. A fact with one
element leads to its own words. What the model said of a chunk is kept in the user's cache: the graph costs one call a chunk, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from baywindow.context.capped import Capped
from baywindow.context.cite import MARK, marks
from baywindow.context.facts import EXTRACT_SYSTEM, Fact, extract_prompt, extracted, fact_of
from baywindow.context.kept import KeptTexts
from baywindow.context.later import answer_reserve
from baywindow.context.parts import parts
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage

SHARE = 5  # of a small window, what the facts of a chunk may take


@dataclass(frozen=True)
class Told:
    """A fact in the model's words without marks, the passage it was taken from, and its elements by number of their nodes."""

    text: str
    origin: Passage
    nodes: tuple[int, ...]


@dataclass
class Graph:
    """``names`` are the nodes; ``ends`` the nodes of each edge, and ``of`` the number of the fact that the edge stands for."""

    names: list[str] = field(default_factory=list)
    facts: list[Told] = field(default_factory=list)
    ends: list[tuple[int, int]] = field(default_factory=list)
    of: list[int] = field(default_factory=list)

    def add(self, text: str, origin: Passage, nodes: Sequence[int]) -> None:
        if len(nodes) == 1:
            nodes = (*nodes, len(self.names))
            self.names.append(text)
        self.ends += [(nodes[0], other) for other in nodes[1:]]
        self.of += [len(self.facts)] * (len(nodes) - 1)
        self.facts.append(Told(text, origin, tuple(nodes)))


def built(run: Run, passages: Sequence[Passage] | None, chunk_tokens: int, facts_tokens: int, max_calls: int) -> Graph:
    """The graph of all passages (of the corpus, if none were chosen). A fact whose passage is not known is left out, and counted."""
    graph = Graph()
    numbers: dict[str, int] = {}
    lost = 0
    for fact in _facts(run, passages, chunk_tokens, facts_tokens, max_calls):
        origins = [run.numbered[n] for n in marks(fact.text) if n in run.numbered]
        text = " ".join(MARK.sub("", fact.text).split())
        if not origins or not text or not fact.elements:
            lost += 1
            continue
        for key, name in fact.elements.items():
            if key not in numbers:
                numbers[key] = len(graph.names)
                graph.names.append(name)
        graph.add(text, origins[0], [numbers[key] for key in fact.elements])
    if lost:
        run.note(f"{lost} facts that no passage holds were left out of the graph")
    return graph


def _facts(run: Run, passages: Sequence[Passage] | None, chunk_tokens: int, facts_tokens: int, max_calls: int) -> list[Fact]:
    """With this run's marks. What an earlier run asked of a chunk is not asked again."""
    tokens = min(facts_tokens, run.model.context_length // SHARE)
    keep = answer_reserve(run)
    chunks = parts(run, passages, lambda shown: extract_prompt(run, shown), tokens, text_tokens=chunk_tokens, keep=keep)
    kept = KeptTexts(run, "facts", f"{tokens}|{EXTRACT_SYSTEM}")
    groups = [chunk.shown for chunk in chunks]
    missing = [n for n, group in enumerate(groups) if not kept.has(group)]
    if missing:
        run.progress(f"extracting facts from {len(missing)} chunks")
        how = Call(name="extract", max_new_tokens=tokens, keep=keep)
        found = extracted(Capped(run, max_calls), [chunks[n] for n in missing], how)
        made = {n: "\n".join(fact.line for fact in facts) for n, facts in zip(missing, found, strict=True) if facts is not None}
        kept.keep(made, groups)
    return [fact_of(line) for group in groups for line in (kept.get(group) or "").splitlines()]
