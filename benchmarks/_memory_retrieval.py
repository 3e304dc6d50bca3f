"""Evidence turns that a search finds, and what searching and adding cost, over whole conversations. No language model."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _locomo import ANSWERABLE, Question, Talk, questions, recall, talks

from baywindow.documents.bm25 import Bm25, best_first
from baywindow.memory.memory import Memory
from baywindow.memory.records import Recalled, Scope, Turn
from baywindow.models.base import Embedder

DEPTHS = (5, 10, 20)
ONE_BY_ONE = 100  # turns whose `add` is measured
PLAIN = "BM25, words as they are (k1 1.5, b 0.75)"
STEMMED = "BM25, stems without stop words (k1 0.9, b 0.4)"
SEARCHED = {name: f"turn_retrieval(by='{name}')" for name in ("words", "meaning", "both")}
# What a prompt of a size shows; `full_history` has as much as 8,192 tokens hold.
SHOWN = {
    "turn_retrieval(by='words', k=50)": 800,
    "turn_retrieval(by='both', k=50)": 800,
    "turn_retrieval(by='both', k=50, neighbours=1)": 800,
    "last_turns(k=100)": 800,
    "full_history": 8192,
}
Found = list[list[str]]  # the turns that each memory found rests on, best memory first


def asked(most: int) -> list[Question]:
    """Questions with evidence, of categories 1 to 4: all, or so many of the first conversation."""
    usable = [q for q in questions() if q.category in ANSWERABLE and q.evidence]
    return usable[: most or None]


def floors(wanted: Sequence[Question]) -> dict[str, list[Found]]:
    """Rankings of both BM25 for every question, over the turns of its conversation alone."""
    ranked: dict[str, list[Found]] = {PLAIN: [], STEMMED: []}
    made = {}
    for name in {question.talk for question in wanted}:
        texts = lines(talks()[name])
        made[name] = (_plain_scores(texts), Bm25(texts).scores, talks()[name].refs)
    for question in wanted:
        *scorers, refs = made[question.talk]
        for name, scores in zip(ranked, scorers, strict=True):
            ranked[name].append([[refs[at]] for at in best_first(scores(question.text), max(DEPTHS))])
    return ranked


def lines(talk: Talk) -> list[str]:
    """Turns as every rival sees them."""
    return [f"{message['name']}: {message['content']}" for message in talk.messages]


def _plain_scores(texts: Sequence[str]) -> Callable[[str], Any]:
    import bm25s

    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    tokens = [_plain_words(text) for text in texts]
    known = set().union(*tokens)
    index.index(tokens, show_progress=False)
    return lambda query: index.get_scores([word for word in _plain_words(query) if word in known])


def _plain_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@contextmanager
def filled(embedder: Embedder, names: Sequence[str], add_s: list[float]) -> Iterator[Path]:
    """A store with some conversations, a user each. The last turns come one by one, as in a chat: the seconds of each to ``add_s``."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with Memory(folder, "turn_retrieval", embedder=embedder) as memory:
            for name in names:
                said = talks()[name].messages
                alone = ONE_BY_ONE if name == names[-1] else 0
                memory.add(said[: len(said) - alone], Scope(name))
                for message in said[len(said) - alone :]:
                    with timed(add_s):
                        memory.add(message, Scope(name))
        yield Path(folder)


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)


def measured(embedder: Embedder, most: int) -> dict[str, Any]:
    """Recall of each question by what searched, seconds of each search and add, and the size of the store."""
    wanted, add_s = asked(most), []
    names = list(dict.fromkeys(q.talk for q in wanted))
    embedder.embed(["warm up"], "query")
    with filled(embedder, names, add_s) as folder:
        size = folder_bytes(folder)
        found, search_s = floors(wanted), {}
        for name, system in SEARCHED.items():
            found[system], search_s[name] = _searched(folder, system, embedder, wanted)
        shown = {f"{system}, {budget:,} tokens": _shown(folder, system, budget, embedder, wanted) for system, budget in SHOWN.items()}
    embed_s: list[float] = []
    for question in wanted:
        with timed(embed_s):
            embedder.embed([question.text], "query")
    return {
        "n": len(wanted),
        "turns": sum(len(talks()[name].messages) for name in names),
        "recall": {name: recalls(wanted, ranked) for name, ranked in found.items()},
        "shown": shown,
        "add_ms": percentiles(add_s),
        "search_ms": {name: percentiles(seconds) for name, seconds in search_s.items()},
        "embed_question_ms": percentiles(embed_s),
        "store_bytes": size,
        "text_bytes": sum(len(line.encode()) for name in names for line in lines(talks()[name])),
        "unusable": {q.id: q.unusable for q in questions() if q.unusable},
        "without_evidence": sum(not q.evidence for q in questions() if q.category in ANSWERABLE),
    }


def recalls(wanted: Sequence[Question], ranked: Sequence[Found]) -> dict[str, list[float]]:
    return {str(k): [recall(q.evidence, found, k) for q, found in zip(wanted, ranked, strict=True)] for k in DEPTHS}


def _searched(folder: Path, system: str, embedder: Embedder, wanted: Sequence[Question]) -> tuple[list[Found], list[float]]:
    with Memory(folder, system, embedder=embedder) as memory:
        refs = {}
        for name in {question.talk for question in wanted}:
            memory.search("warm up", Scope(name))
            refs |= refs_of(memory, Scope(name))
        seconds: list[float] = []
        found = []
        for question in wanted:
            with timed(seconds):
                hits = memory.search(question.text, Scope(question.talk), max(DEPTHS))
            found.append(turns_under(refs, hits))
    return found, seconds


def _shown(folder: Path, system: str, budget: int, embedder: Embedder, wanted: Sequence[Question]) -> dict[str, list[float]]:
    """How much of the evidence a prompt shows, and the tokens it takes, counted from characters."""
    with Memory(folder, system, embedder=embedder) as memory:
        refs = {turn: ref for name in {q.talk for q in wanted} for turn, ref in refs_of(memory, Scope(name)).items()}
        told = [memory.recall(q.text, Scope(q.talk), budget) for q in wanted]
        rests = [turns_under(refs, one.items) for one in told]
    return {"recall": [recall(q.evidence, found) for q, found in zip(wanted, rests, strict=True)], "tokens": [one.tokens for one in told]}


def refs_of(memory: Memory, scope: Scope) -> dict[str, str]:
    """The set's own id of every turn."""
    return {turn.id: turn.ref for turn in memory.list(scope, said=True) if isinstance(turn, Turn)}


def turns_under(refs: Mapping[str, str], found: Iterable[Recalled]) -> Found:
    """The set's own ids of the turns that memories rest on."""
    return [[refs[turn] for turn in one.turns if turn in refs] for one in found]


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "n": len(seconds)}


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
