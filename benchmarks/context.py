"""Speed outside the model: prompt compression beside LLMLingua's own package, and CORAG's search.

    python benchmarks/context.py --parts compress,corag --minutes 10

compress  Needles (a name and a seven-digit number, three with other names beside it) among paragraphs of Python's language reference, cut
          to a quarter. Each sample goes through every method before the next begins, in this process and in LLMLingua's own environment,
          with the same converted weights, one thread each. *kept*: the asked-for number stands whole in the compressed text.
corag     Its search over 100 chunks with a score model that is there already (vectors), 100 iterations.

Rows are kept as they come (in the user's cache), and a run that was stopped goes on; results/context.md shows what there is.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import platformdirs
import torch
from _peer_llmlingua import Peer, environment, old_folder
from _report import table
from _rows import ROWS, Rows, shown, write

from baywindow import registry
from baywindow.bench.haystack import Haystack
from baywindow.context.retrieve.corag.scores import VectorScores
from baywindow.context.retrieve.corag.search import Search
from baywindow.context.run import Run
from baywindow.documents.base import Document, Passage
from baywindow.documents.memory import InMemory
from baywindow.home import cache_dir
from baywindow.models.embedders import default_embedder
from baywindow.models.transformers import TransformersModel

NAMES = ("Osric", "Ida", "Benedikt", "Marwa", "Tomas", "Yuki", "Selma", "Rurik", "Noor", "Petra")
SHARE = 4  # compressed to one part in so many
PARTS = ("compress", "corag")
# LLMLingua computes in float32 on a CPU unless told otherwise, Baywindow in bfloat16 where the hardware does; both of ours are measured.
METHODS = (
    ("llmlingua long", "float32"),
    ("long_llmlingua", "bfloat16"),
    ("long_llmlingua", "float32"),
    ("extractive", "float32"),
    ("selective_context", "bfloat16"),
    ("gemfilter", "bfloat16"),
    ("llmlingua", "float32"),
    ("selective_context", "float32"),
)


@dataclass(frozen=True)
class Sample:
    """Paragraphs, one of which holds the answer."""

    n: int
    paragraphs: tuple[str, ...]
    question: str
    answer: str


def sample_of(n: int, paragraphs: int, sentences: int) -> Sample:
    rng = np.random.default_rng(n)
    text = Haystack.installed().from_seed(n + 1)
    made = [list(islice(text, sentences)) for _ in range(paragraphs)]
    names = [NAMES[i] for i in rng.permutation(len(NAMES))[:4]]
    numbers = [str(i) for i in rng.integers(1_000_000, 9_999_999, size=4)]
    for name, number, place in zip(names, numbers, rng.permutation(paragraphs)[:4], strict=True):
        made[place].insert(int(rng.integers(0, sentences + 1)), f"The vault code of {name} is {number}.")
    return Sample(n, tuple(" ".join(p) for p in made), f"What is the vault code of {names[0]}?", numbers[0])


def ours(model: TransformersModel, sample: Sample, name: str, embedder: Any, budget: int) -> dict[str, Any]:
    documents = [Document(text, f"p{i:02}.txt") for i, text in enumerate(sample.paragraphs)]
    corpus = InMemory(documents, embedder=embedder)
    passages = [Passage(text=d.text, source=d.source, start=0, end=len(d.text), line=1) for d in documents]
    run = Run(sample.question, corpus, model)
    technique = registry.get(name)(budget_tokens=budget)
    wall, cpu = time.perf_counter(), time.process_time()
    kept = technique.compress(run, passages)  # type: ignore[attr-defined]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tokens = sum(model.count_tokens(p.text) for p in kept)  # what the budget is of: the passages' texts, without what joins them
    return {"text": "\n\n".join(p.text for p in kept), "tokens": tokens, "seconds": wall, "cpu": cpu}


def compress(options: argparse.Namespace, rows: Rows) -> None:
    """Fill ``rows`` until the samples are done or the time is up."""
    started = time.monotonic()
    folder = Path(options.model)
    python = environment(Path(platformdirs.user_cache_dir("baywindow")) / "peers", torch.__version__)
    if isinstance(python, str):
        raise SystemExit(python)
    old = old_folder(folder, cache_dir("bench") / f"{folder.name}-transformers-4.40")
    models = {dtype: TransformersModel(str(folder), dtype=dtype, device="cpu") for dtype in ("float32", "bfloat16")}
    model = models["float32"]
    torch.set_num_threads(1)
    peer = Peer(python, old, "float32")
    embedder = default_embedder(device="cpu")
    embedder.embed(["warm"])
    _same_model(peer, model)
    for n in range(options.samples):
        sample = sample_of(n, options.paragraphs, options.sentences)
        given = sum(model.count_tokens(p) for p in sample.paragraphs)
        budget = given // SHARE
        for method, dtype in METHODS:
            key = {"n": n, "method": method, "dtype": dtype, "model": folder.name, "given": given}
            if rows.has(key):
                continue
            if time.monotonic() - started > options.minutes * 60:
                peer.close()
                return
            if method.startswith("llmlingua"):
                asked = {"context": sample.paragraphs, "question": sample.question, "budget": budget, "long": method.endswith("long")}
                result = peer.ask(asked)
            else:
                result = ours(models[dtype], sample, method, embedder, budget)
            text = result.pop("text", "")
            rows.add({**key, "tokens": model.count_tokens(text), **result, "kept": sample.answer in text, "budget": budget})
            print(f"{n} {method}: {rows.rows[-1]}", flush=True)
    peer.close()


def _same_model(peer: Peer, model: TransformersModel) -> None:
    """Both sides must give a text the same loss, else the comparison is of two models."""
    text = "The pier was closed in the year of the great storm, and nobody ever opened it again."
    theirs = peer.ask({"probe": text})
    if "error" in theirs:
        raise SystemExit(f"LLMLingua: {theirs['error']}")
    first = model.tokenizer(text).input_ids
    start = model.tokenizer.decode(first[:1])
    mine = model.score(start, text[len(start) :]).nll
    if abs(theirs["loss"] - mine) > 0.02 * mine:
        raise SystemExit(f"the two sides do not run the same model: mean loss {theirs['loss']:.4f} there, {mine:.4f} here")


def corag(repeats: int) -> dict[str, Any]:
    """Milliseconds of the search alone, over different random candidates each time."""
    found = []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        topics = rng.normal(size=(12, 384))
        vectors = topics[rng.integers(0, 12, size=100)] + 0.7 * rng.normal(size=(100, 384))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        question = topics[:3].sum(0)
        scores = VectorScores(vectors, (question / np.linalg.norm(question)).astype(np.float32))
        costs = rng.integers(80, 256, size=100).tolist()
        started = time.perf_counter()
        search = Search(scores, costs, 3000, 20, 1.41, 0.1)
        search.run(100)
        found.append(1000 * (time.perf_counter() - started))
    return {"median_ms": float(np.median(found)), "worst_ms": float(np.max(found)), "repeats": repeats}


def report(rows: Rows, searched: dict[str, Any], command: str) -> None:
    body, data = [], {"corag": searched, "compress": rows.rows}
    body.append(
        f"CORAG's search, 100 chunks, 100 iterations, scores there already: median {searched['median_ms']:.0f} ms, "
        f"worst {searched['worst_ms']:.0f} ms of {searched['repeats']} (goal: below 200 ms)."
        if searched
        else "CORAG's search was not measured in this run."
    )
    if rows.rows:
        body.append(_table(rows.rows))
    write("context", "Compression and search outside the model", "\n\n".join(body), data, command)


def _table(rows: list[dict[str, Any]]) -> str:
    good = [r for r in rows if "error" not in r]
    of = {f"{m}, {d}": [r for r in good if (r["method"], r["dtype"]) == (m, d)] for m, d in METHODS}
    lines = []
    for name, some in of.items():
        if not some:
            failed = next((r["error"] for r in rows if f"{r['method']}, {r['dtype']}" == name and "error" in r), "not measured")
            lines.append([name, failed, "", "", "", "", "", ""])
            continue
        speed = {k: sum(r["given"] for r in some) / sum(r[k] for r in some) for k in ("seconds", "cpu")}
        cells = [f"{speed['seconds']:.0f}", f"{speed['cpu']:.0f}", *_ratios(some, of), shown([float(r["kept"]) for r in some])]
        cells.append(f"{sum(r['tokens'] for r in some) / sum(r['budget'] for r in some):.2f}")
        failures = sum("error" in r and f"{r['method']}, {r['dtype']}" == name for r in rows)
        lines.append([name, *cells, failures])
    head = ("method", "tokens/s, wall", "tokens/s, CPU", "× LongLLMLingua's, wall", "CPU", "needle kept whole", "tokens ÷ budget", "errors")
    tokens = sum(r["given"] for r in good) / max(1, len(good))
    title = (
        f"Compression to a quarter, {tokens:.0f} tokens a sample, scored by the same weights, one thread. CPU seconds are the process's "
        "own; wall seconds suffer from other work on the machine."
    )
    return f"{title}\n\n{table(head, lines)}"


def _ratios(some: list[dict[str, Any]], of: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Time of LLMLingua's long mode over this one's, on the samples that both did."""
    base = {r["n"]: r for r in of.get("llmlingua long, float32", [])}
    both = [(base[r["n"]], r) for r in some if r["n"] in base]
    if not both:
        return ["–", "–"]
    return [f"{sum(a[k] for a, _ in both) / sum(b[k] for _, b in both):.1f}" for k in ("seconds", "cpu")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = next(iter(sorted(cache_dir("models").glob("qwen2.5-coder-0.5b*-[0-9a-f]*/"))), None)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--model", default=str(default or ""), help="a converted model's folder that transformers 4.40 knows (Qwen2)")
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--paragraphs", type=int, default=8)
    parser.add_argument("--sentences", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=10.0, help="no new measurement is begun after this time")
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    options = parser.parse_args()
    size = f"{options.paragraphs}x{options.sentences}"
    path = ROWS / f"context-{size}-{hashlib.sha256(options.model.encode()).hexdigest()[:8]}.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    rows = Rows(path, lambda r: (r["n"], r["method"], r["dtype"], r["model"]))
    parts = options.parts.split(",")
    searched = corag(20) if "corag" in parts else {}
    if "compress" in parts:
        if not options.model:
            raise SystemExit("no converted Qwen2.5-Coder-0.5B is in the cache: run `bay ask … --model FILE.gguf` with it once")
        compress(options, rows)
    report(rows, searched, f"python benchmarks/context.py --parts {options.parts} --minutes {options.minutes:g}")


if __name__ == "__main__":
    main()
