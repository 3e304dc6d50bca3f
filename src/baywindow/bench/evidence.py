"""What a recipe finds for a question, without an answer: its memory, filled with what was said, or its stages before the reader.

A memory takes in one conversation session by session, as a chat would give it, into a store that is kept between runs: a system that
calls a model for every turn is filled once. The row's reply has a line for every find, with the ids of the turns that it rests on;
``prompt_tokens`` is what a prompt would hold of it: the memory's block within its own budget, or the first ten passages.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from baywindow.bench import find
from baywindow.bench.base import Sample
from baywindow.bench.tasks.locomo_evidence import DEPTH
from baywindow.context.remembered import memory_of
from baywindow.context.run import Run
from baywindow.context.stages import run_stages
from baywindow.documents.base import Document
from baywindow.documents.sources import open_corpus
from baywindow.errors import RecipeError
from baywindow.home import cache_dir
from baywindow.memory.base import MemorySystem
from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope, Turn
from baywindow.recipe import Recipe

if TYPE_CHECKING:
    from baywindow.bench.measure import Desk

FINDS = 20  # kept of each question, for other depths than the one that is scored


def found(sample: Sample, recipe: Recipe, desk: Desk) -> Iterator[dict[str, object]]:
    """The figures of every question. RecipeError for a recipe that looks for nothing."""
    part, stages = memory_of(recipe.with_defaults().outside[:-1])
    for turn in sample.asked:
        if isinstance(part, MemorySystem):
            figures = _remembered(sample, turn.question, part, desk)
        elif stages:
            figures = _searched(sample, turn.question, stages, desk, recipe)
        else:
            raise RecipeError("evidence is found by a memory or a search, and the recipe has neither", hint="e.g. turn_retrieval > rag")
        yield {"protocol": "evidence", **figures, "score": find.score(str(figures["reply"]), turn)}


class Memories:
    """The memories of a run, one a system and its settings, each with every conversation under a user of its own, named by its words."""

    def __init__(self) -> None:
        self._open: dict[str, Memory] = {}

    def of(self, part: MemorySystem, desk: Desk) -> Memory:
        embedder = desk.embedder_for(Recipe((), (part,)))
        bound = f"{part}\0{desk.model.fingerprint}\0{embedder.fingerprint if embedder else ''}"
        key = hashlib.sha256(bound.encode()).hexdigest()[:24]
        if key not in self._open:
            folder = cache_dir("bench", "evidence", key)
            self._open[key] = Memory(folder, part, model=desk.model, embedder=embedder, settings=desk.settings)
        return self._open[key]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


def _remembered(sample: Sample, question: str, part: MemorySystem, desk: Desk) -> dict[str, Any]:
    memory, scope = desk.memories.of(part, desk), Scope(hashlib.sha256(sample.context.encode()).hexdigest()[:16])
    note = _filled(memory, sample.documents, scope)
    refs = {turn.id: turn.ref for turn in memory.list(scope, said=True) if isinstance(turn, Turn)}
    started, cpu = time.perf_counter(), time.process_time()
    finds = memory.search(question, scope, FINDS)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    lines = [" ".join(refs[turn] for turn in one.turns if turn in refs) for one in finds]
    block = memory.recall(question, scope)
    notes = "; ".join(filter(None, [note, *block.notes]))
    return {"reply": "\n".join(lines), "seconds": seconds, "cpu_seconds": cpu, "prompt_tokens": block.tokens, "notes": notes}


def _filled(memory: Memory, documents: Sequence[Document], scope: Scope) -> str:
    """Adds what is not there yet, session by session; a line on what that took."""
    there = {turn.ref for turn in memory.list(scope, said=True) if isinstance(turn, Turn)}
    started, added, calls = time.perf_counter(), 0, 0
    for _, session in groupby(documents, lambda document: document.metadata["session"]):
        new = [_message(document) for document in session if document.metadata["ref"] not in there]
        if new:
            done = memory.add(new, scope)
            added, calls = added + len(new), calls + done.usage.calls
    return f"{added} turns added in {time.perf_counter() - started:.1f} s with {calls} calls" if added else ""


def _message(document: Document) -> dict[str, Any]:
    told = document.metadata
    text = document.text.removeprefix(f"{told['speaker']}: ")
    return {"role": "user", "name": told["speaker"], "content": text, "ref": told["ref"], "said_at": told["said_at"]}


def _searched(sample: Sample, question: str, stages: Sequence[Any], desk: Desk, recipe: Recipe) -> dict[str, Any]:
    refs = {document.source: document.metadata["ref"] for document in sample.documents}
    corpus = open_corpus(list(sample.documents), embedder=desk.embedder_for(recipe), settings=desk.settings)
    run = Run(question, corpus, desk.model)
    started, cpu = time.perf_counter(), time.process_time()
    passages = run_stages(run, stages) or []
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    lines = list(dict.fromkeys(refs[passage.source] for passage in passages))[:FINDS]
    shown = sum(desk.model.count_tokens(passage.text) for passage in passages[:DEPTH])
    figures = {"reply": "\n".join(lines), "seconds": seconds, "cpu_seconds": cpu, "prompt_tokens": shown}
    return figures | {"calls": run.meter.calls, "notes": "; ".join(run.notes)}
