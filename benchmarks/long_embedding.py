"""An embedder stretched beyond its window: LongEmbed's two made tests, passkey and needle, at lengths up to eight windows.

    python benchmarks/long_embedding.py [--hours 1] [--lengths 256,512,1024,2048] [--embedder FOLDER_OR_ID] [--report]

A hundred documents of the same length, each with a fact of its own at a place of its own; fifty questions, each about one of them;
accuracy at 1. *passkey*: the pass key of a person among repeated filler. *needle*: what is best done in a town, in natural text. Facts
are invented, and the natural text is the bench's, so figures are not the paper's. `one window` is the embedder as it is, which reads the
beginning; the methods of the `longembed` technique stand beside it. Resumable: a row for each task, length and method.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from itertools import cycle, product

import numpy as np
from _report import interval, table
from _rows import ROWS, Rows, write

from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks._names import Fresh
from baywindow.context.retrieve.longembed import METHODS
from baywindow.errors import CapabilityError
from baywindow.models.base import Embedder
from baywindow.models.embedders import load_embedder, long_embedder

DOCUMENTS, QUESTIONS = 100, 50  # as in the paper
FILLER = ("The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again.")
DEEDS = ("eat {} soup", "watch the {} race", "hear the {} choir", "climb the {} tower", "swim in {} lake", "buy {} cheese")
PLAIN = "one window"


def passkeys(rng: random.Random, sentences: Iterator[str]) -> tuple[list[str], list[str]]:
    """Facts and the questions about them."""
    fresh = Fresh(rng)
    names = [f"{fresh.name()} {fresh.name()}" for _ in range(DOCUMENTS)]
    keys = rng.sample(range(10_000, 100_000), DOCUMENTS)
    facts = [
        f"The pass key of {name} is {key}. Remember it. {key} is the pass key of {name}." for name, key in zip(names, keys, strict=True)
    ]
    return facts, [f"What is the pass key of {name}?" for name in names]


def needles(rng: random.Random, sentences: Iterator[str]) -> tuple[list[str], list[str]]:
    fresh = Fresh(rng)
    towns = [fresh.name() for _ in range(DOCUMENTS)]
    facts = [f"The best thing to do in {town} is to {rng.choice(DEEDS).format(fresh.name())} on a sunny day." for town in towns]
    return facts, [f"What is the best thing to do in {town}?" for town in towns]


TASKS: dict[str, Callable[[random.Random, Iterator[str]], tuple[list[str], list[str]]]] = {"passkey": passkeys, "needle": needles}


def made(task: str, length: int, count: Callable[[str], int]) -> tuple[list[str], list[str]]:
    """Documents of just under ``length`` tokens, and a question about each."""
    rng = random.Random(f"{task} {length}")
    sentences = cycle(FILLER) if task == "passkey" else Haystack.installed().from_seed(length)
    facts, questions = TASKS[task](rng, sentences)
    documents = []
    for fact in facts:
        parts: list[str] = []
        left = length - 2 - count(fact)
        while (size := count(sentence := next(sentences))) <= left:
            parts.append(sentence)
            left -= size
        parts.insert(rng.randint(0, len(parts)), fact)
        documents.append(" ".join(parts))
    return documents, questions


def measured(embedder: Embedder, documents: list[str], questions: list[str]) -> list[bool]:
    """Whether the document that a question is about is the nearest one."""
    vectors = embedder.embed(documents)
    likeness = embedder.embed(questions[:QUESTIONS], "query") @ vectors.T
    return [bool(best == i) for i, best in enumerate(np.argmax(likeness, axis=1))]


def run(options: argparse.Namespace) -> None:
    rows = Rows(ROWS / "long_embedding.jsonl", key=lambda r: (r["embedder"], r["task"], r["length"], r["method"]))
    end = time.monotonic() + options.hours * 3600
    plain = load_embedder(options.embedder)
    window = plain.max_tokens
    counter = long_embedder(options.embedder, "windows", 2)
    for length, task in product(map(int, options.lengths.split(",")), TASKS):
        documents, questions = made(task, length, counter.count_tokens)
        for method in (PLAIN, *METHODS):
            row = {"embedder": plain.name, "window": window, "task": task, "length": length, "method": method}
            if rows.has(row) or options.report or time.monotonic() > end or (length <= window and method != PLAIN):
                continue
            print(f"… {task}, {length} tokens, {method}", flush=True)
            try:
                embedder = plain if method == PLAIN else long_embedder(options.embedder, method, max(2, -(-length // window)))
            except CapabilityError as error:
                rows.add(row | {"error": str(error)})
                continue
            before = time.process_time()
            hits = measured(embedder, documents, questions)
            rows.add(row | {"hits": hits, "cpu_s": time.process_time() - before})
    report(rows, options)


def report(rows: Rows, options: argparse.Namespace) -> None:
    body = []
    for name in dict.fromkeys(r["embedder"] for r in rows.rows):
        mine = {(r["task"], r["length"], r["method"]): r for r in rows.rows if r["embedder"] == name}
        lengths = sorted({length for _, length, _ in mine})
        window = next(iter(mine.values()))["window"]
        for task in TASKS:
            lines = [[f"`{method}`", *(_cell(mine.get((task, n, method)), n <= window) for n in lengths)] for method in (PLAIN, *METHODS)]
            body.append(f"## {task}: {name}, a window of {window} tokens\n\n{table(['method', *map(str, lengths)], lines)}")
        missing = {r["error"] for r in mine.values() if "error" in r}
        body += [f"Not there: {'; '.join(sorted(missing))}."] if missing else []
    told = f"Accuracy at 1 with a 95 % bootstrap interval: {QUESTIONS} questions, {DOCUMENTS} documents of the named number of tokens."
    command = f"python benchmarks/long_embedding.py --hours {options.hours:g} --lengths {options.lengths}"
    write("long_embedding", "Retrieval beyond an embedder's window", "\n\n".join([told, *body]), {}, command, rows.rows)


def _cell(row: dict | None, within: bool) -> str:
    if row is None or "error" in row:
        return "as it is" if within else "–"
    mean, low, high = interval([float(hit) for hit in row["hits"]])
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="stop after this time and report what there is")
    parser.add_argument("--lengths", default="256,512,1024,2048", help="tokens of a document")
    parser.add_argument("--embedder", default=None, help="a sentence-transformers folder or id (default: the embedded one)")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
