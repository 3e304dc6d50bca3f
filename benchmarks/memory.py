"""Memory on real conversations (LoCoMo): evidence found, answers, prompt tokens, latency, size; beside plain BM25 and the mem0ai package.

    python benchmarks/memory.py [--parts retrieval,scale,peer,systems,peer_facts] [--hours 3] [--models qwen,embedded]

Parts, in the order they are run:
  retrieval   no language model: evidence recall of searches against BM25 over turns, what a prompt shows, search, add and size
  scale       50,000 memories of one user: search, add and size; words of the conversations, drawn vectors
  peer        mem0ai without a model beside Baywindow, the same turns and embedder, one after the other
  systems     every memory system with the same model: evidence, answers, prompt tokens, calls
  peer_facts  mem0ai and our mem0 extracting facts with the same model, which `bay serve` serves to mem0ai

Resumable: a part that is there is not run again unless --fresh is given; of ``systems`` every answer is kept as it comes, systems and
sets in turn. Needs the real data (BAY_SHARED).
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import _memory_peer
import _memory_retrieval
import _memory_scale
import _memory_systems
from _memory_tables import body
from _models import path_of
from _report import machine
from _rows import ROWS, Rows, write

from baywindow.home import cache_dir
from baywindow.models import select
from baywindow.models.base import Embedder, LanguageModel
from baywindow.models.embedders import default_embedder
from baywindow.server.engine import Engine
from baywindow.server.prefixes import CacheOptions, PrefixStore
from baywindow.server.wrapped import Queued

PARTS = ("retrieval", "scale", "peer", "systems", "peer_facts")


def run(options: argparse.Namespace) -> None:
    end = time.monotonic() + options.hours * 3600
    rows = Rows(ROWS / "memory.jsonl", _memory_systems.key)
    embedder = default_embedder()
    for part in PARTS:
        if part not in options.parts.split(",") or time.monotonic() > end:
            continue
        if part == "systems":
            run_systems(options, rows, embedder, end)
        elif options.fresh or not rows.has({"part": part}):
            print(f"… {part}", flush=True)
            rows.add({"part": part, "machine": machine(), "result": measured(part, options, embedder, end)})
    report(rows, options)


def measured(part: str, options: argparse.Namespace, embedder: Embedder, end: float) -> Any:
    if part == "retrieval":
        return _memory_retrieval.measured(embedder, options.questions)
    if part == "scale":
        return _memory_scale.measured(embedder, options.memories)
    if part == "peer":
        return _memory_peer.as_said(embedder, options.questions)
    model = path_of("qwen")
    task = _memory_peer.Beginning.of(options.peer_turns, options.questions, end)
    return _memory_peer.facts(embedder, select.load(model), model, task)


def run_systems(options: argparse.Namespace, rows: Rows, embedder: Embedder, end: float) -> None:
    """Sets outside, systems inside, so that a run stopped early has compared all of them on the same questions. With several systems at
    a time what they ask of the model is read in batches, as `bay serve` does it."""
    folder = cache_dir("bench", "memory")
    wanted = [one for one in _memory_systems.sets(options.sessions, options.each) if one.name in options.sets.split(",")]
    for name in options.models.split(","):
        model = select.load(path_of(name))
        prefixes = PrefixStore(folder / "prefixes", CacheOptions(disk_bytes=0))  # what a prompt begins with is read once, as in `bay serve`
        engine = Engine(model, lambda: options.at_once, prefixes)
        for chosen in wanted:
            note(rows, name, chosen.label, lambda: _memory_systems.history_tokens(model, chosen.talk))  # noqa: B023 - called at once
        jobs = [(chosen, one) for chosen in wanted for one in chosen.systems if not options.systems or one in options.systems.split(";")]

        def run_one(job: tuple[_memory_systems.Set, str], name: str = name, model: LanguageModel = model, engine: Engine = engine) -> None:
            chosen, system = job
            if time.monotonic() > end:
                return
            print(f"… {name}, {chosen.label}, {system}", flush=True)
            speaker = model if options.at_once == 1 else Queued(engine, system, threading.Event())
            bench = _memory_systems.Bench(name, speaker, embedder, folder, rows, lambda: time.monotonic() > end, options.at_once)
            bench.run(chosen, system)

        with ThreadPoolExecutor(options.at_once) as pool:
            list(pool.map(run_one, jobs))
        engine.close()


def note(rows: Rows, model: str, label: str, tokens: Callable[[], int]) -> None:
    """The length of a set's whole history, once."""
    row = {"part": "history", "model": model, "set": label}
    if not rows.has(row):
        rows.add(row | {"tokens": tokens()})


def report(rows: Rows, options: argparse.Namespace) -> None:
    told = f"python benchmarks/memory.py --parts {options.parts} --hours {options.hours:g} --models {options.models}"
    text, cells = body(rows.rows)
    write("memory", "Memory on real conversations", text, {"cells": cells}, told, rows.rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--hours", type=float, default=3.0, help="stop after this time and report what there is")
    parser.add_argument("--models", default="qwen,embedded", help="of `systems`")
    parser.add_argument("--sets", default="beginning,whole", help="of `systems`")
    parser.add_argument("--systems", default="", help="of `systems`: only these, separated by ';'")
    parser.add_argument("--questions", type=int, default=0, help="at most so many in a part, of the first conversation first (0: all)")
    parser.add_argument("--each", type=int, default=5, help="questions of each kind and whole conversation in `systems`")
    parser.add_argument("--sessions", type=int, default=2, help="of the conversation that all systems read")
    parser.add_argument("--memories", type=int, default=50_000, help="of `scale`")
    parser.add_argument("--peer-turns", type=int, default=18, help="turns that both sides extract facts from")
    parser.add_argument("--at-once", type=int, default=1, help="of `systems`: so many at a time; their seconds are then marked")
    parser.add_argument("--fresh", action="store_true", help="run the named parts again (answers of `systems` are kept)")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
