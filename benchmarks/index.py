"""`make bench-index`: indexing, memory, latency and retrieval quality, measured here. Resumable: finished parts are kept.

    python benchmarks/index.py [--part NAME …] [--fresh]

Writes results/indexing.json and results/indexing.md. Ratios come from runs that alternate within one call of this script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from _data import Task, data_folder, leval, locomo_tasks, natural_question_tasks
from _index_start import start
from _index_tables import markdown
from _peer import PeerMissing, run_peer, run_script
from _report import Parts, interval, progress

from baywindow import home
from baywindow.context.base import Retriever
from baywindow.context.retrieve.full_text import FullText
from baywindow.context.retrieve.hybrid import Hybrid
from baywindow.context.retrieve.vectors import Vectors
from baywindow.documents.base import Document
from baywindow.documents.chunks import Chunk, chunker_for
from baywindow.documents.index import Index
from baywindow.documents.index import store as store_module
from baywindow.documents.index.rows import FileRecord, chunk_rows, file_rows, vector_rows
from baywindow.documents.index.store import Store
from baywindow.documents.memory import InMemory
from baywindow.models.base import Embedder
from baywindow.models.embedders import default_embedder, embedded_folder

WORKER = Path(__file__).with_name("_ours_index.py")
FILES = 1000
WHOLE_FILES = 120
ROUNDS = 3
SCALE = 100_000
WARM_UP = 10  # questions before those that count
BEST = 5
TECHNIQUES: dict[str, Retriever] = {
    "full_text": FullText(k=BEST),
    "vectors": Vectors(k=BEST),
    "hybrid": Hybrid(k=BEST),
    'hybrid(fuse="ranks")': Hybrid(k=BEST, fuse="ranks"),
    'hybrid(fuse="ranks", rrf_k=5)': Hybrid(k=BEST, fuse="ranks", rrf_k=5),
    'hybrid(fuse="ranks", depth=10)': Hybrid(k=BEST, fuse="ranks", depth=10),
    "hybrid(alpha=0.5)": Hybrid(k=BEST, alpha=0.5),
}


class Question:
    """All that a retriever uses of a run."""

    def __init__(self, corpus: Any, question: str) -> None:
        self.corpus, self.question, self.notes = corpus, question, []

    def note(self, text: str) -> None:
        self.notes.append(text)


def make_files(folder: Path, count: int) -> int:
    """``count`` text files from L-Eval's documents (cut at paragraphs or sentences); how many characters that is."""
    texts = [row["input"] for name in ("quality", "coursera", "natural_question") for row in leval(name)]
    if not texts:
        rng = np.random.default_rng(0)
        words = [f"word{n}" for n in range(5000)]
        texts = [" ".join(rng.choice(words, 400_000)).replace("7 ", "7. ")]
    whole = "\n\n".join(texts)
    size = len(whole) // FILES
    for n in range(count):
        (folder / f"{n:04d}.txt").write_text(whole[n * size : (n + 1) * size], encoding="utf-8")
    return size * count


def against_llamaindex(files: int, ours: str, theirs: list[str], rounds: int) -> dict[str, Any]:
    """Alternating runs in processes of their own; medians of seconds, and the ratio of each round."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        (base / "files").mkdir()
        characters = make_files(base / "files", files)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ["ours", *theirs]}
        for turn in range(rounds):
            progress(f"round {turn + 1} of {rounds}")
            runs["ours"].append(run_script(sys.executable, WORKER, base / "files", base / f"ours{turn}", ours))
            for at, name in enumerate(theirs):
                tokenizer = embedded_folder() / "tokenizer.json"
                runs[name].append(run_peer("index", base / "files", base / f"peer{turn}-{at}", tokenizer, name))
    mine = [run["seconds"] for run in runs["ours"]]
    return {
        "files": files,
        "characters": characters,
        "rounds": rounds,
        "ours": {k: statistics.median(run[k] for run in runs["ours"]) for k in runs["ours"][0]},
        "peers": {
            name.rpartition("/")[2]: {
                **{k: statistics.median(run[k] for run in runs[name]) for k in runs[name][0]},
                "ratios": [run["seconds"] / s for run, s in zip(runs[name], mine, strict=True)],
            }
            for name in theirs
        },
    }


def memory() -> list[dict[str, float]]:
    """Peak memory of a process that indexes one text file of a size (full text; embedding works in fixed groups)."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for megabytes in (10, 50, 200):
            progress(f"{megabytes} MB")
            folder = Path(temporary) / f"{megabytes}"
            folder.mkdir()
            line = "The quick brown fox number {} jumps over the lazy dog while others look on and say nothing of it at all.\n"
            with (folder / "a.txt").open("w") as file:
                written = n = 0
                while written < megabytes * 1_000_000:
                    written += file.write(line.format(n))
                    n += 1
            run = run_script(sys.executable, WORKER, folder, Path(temporary) / f"i{megabytes}", "none")
            found.append({"megabytes": megabytes, "peak_mb": run["peak_mb"], "seconds": run["seconds"]})
    return found


def synthetic_index(embedder: Embedder) -> Index:
    """The index of `write_synthetic`, searchable in both ways. It is kept in the user's cache folder (some 800 MB) until the code that
    makes it changes."""
    made_by = sha256(b"".join(path.read_bytes() for path in sorted(Path(store_module.__file__).parent.glob("*.py")))).hexdigest()
    folder = home.cache_dir("bench") / f"synthetic-{made_by[:16]}"
    if not folder.is_dir():
        for old in folder.parent.glob("synthetic-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            index = write_synthetic(temporary, embedder)
            # Binds the vectors to the embedder, builds and measures the approximate index.
            about = index._store.about()
            index._store.set_about(replace(about, embedder=embedder.fingerprint, embedder_name=embedder.name, dim=embedder.dim))
            index.refresh()
            index.embed()
            shutil.copytree(temporary, folder.with_suffix(".partial"), dirs_exist_ok=True)
            folder.with_suffix(".partial").rename(folder)
    return Index(folder, embedder=embedder, on_progress=progress)


def write_synthetic(uri: str, embedder: Embedder) -> Index:
    """100,000 chunks of words by Zipf's law and clustered vectors, written as the index writes them."""
    rng = np.random.default_rng(0)
    words = np.array([f"term{n}" for n in range(20_000)])
    weights = 1 / np.arange(1, 20_001)
    Index(uri, embedder=embedder).update([])  # makes the tables
    store = Store(uri)
    centres = rng.standard_normal((1000, embedder.dim)).astype(np.float32)
    store.vectors(embedder.dim)
    per_file = 1000
    for number in range(1, SCALE // per_file + 1):
        drawn = words[rng.choice(20_000, (per_file, 100), p=weights / weights.sum())]
        chunks, at = [], 0
        for row in drawn:
            text = " ".join(row)
            chunks.append(Chunk(text, at, at + len(text), " " if at else "", 1, None, ""))
            at += len(text) + 1
        record = FileRecord(
            path=f"/synthetic/{number}.txt",
            digest="",
            mtime_ns=0,
            size_bytes=at,
            characters=at,
            chunks=per_file,
            indexed_at=0.0,
            number=number,
        )
        store.table("chunks").add(chunk_rows(number, 0, chunks))
        store.table("chunks").add(file_rows([record]))
        noise = rng.standard_normal((per_file, embedder.dim)).astype(np.float32)
        vectors = centres[rng.integers(0, len(centres), per_file)] + noise
        ids = np.arange(per_file, dtype=np.int64) + (number << 24) + 1
        store.table("vectors").add(vector_rows(ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))
    store.tidy("chunks")
    return Index(uri, embedder=embedder, on_progress=progress)


def latency() -> dict[str, Any]:
    """Milliseconds of one question, its embedding included, over 100,000 chunks, after warm-up."""
    embedder = default_embedder()
    rng = np.random.default_rng(1)
    questions = [" ".join(f"term{n}" for n in rng.zipf(1.3, 8) % 20_000) for _ in range(110)]
    found: dict[str, Any] = {"chunks": SCALE}
    index = synthetic_index(embedder)
    info = index.info()
    found |= {"recall_at_10": info.recall_at_10, "nprobes": info.nprobes}
    progress("asking")
    for name in ("full_text", "vectors", "hybrid"):
        technique = type(TECHNIQUES[name])(k=20)  # type: ignore[call-arg]
        found[name] = timed(lambda question, t=technique: t.retrieve(Question(index, question), question, None), questions, index)  # type: ignore[misc]
    found["embedding"] = timed(lambda question: embedder.embed([question], "query"), questions, index)
    return found


def timed(ask: Callable[[str], Any], questions: list[str], index: Index) -> dict[str, Any]:
    """Milliseconds by the clock, and of the processor (all threads), which others on the machine disturb less; ten to warm up."""
    clock, worked = [], []
    for question in questions:
        index._queries.clear()  # every question is embedded anew
        started, at_work = time.perf_counter(), time.process_time()
        ask(question)
        clock.append((time.perf_counter() - started) * 1000)
        worked.append((time.process_time() - at_work) * 1000)
    p50, p90 = np.percentile(clock[WARM_UP:], [50, 90])
    return {"n": len(clock) - WARM_UP, "p50_ms": p50, "p90_ms": p90, "cpu_p50_ms": float(np.median(worked[WARM_UP:]))}


def cold() -> dict[str, float]:
    """Seconds from 1,000 never seen pages (500 words each) to the first passages."""
    texts = "\n\n".join(row["input"] for name in ("quality", "coursera", "natural_question") for row in leval(name)).split()
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        (base / "files").mkdir()
        for page in range(1000):
            start = page * 500 % max(1, len(texts) - 500)
            (base / "files" / f"{page:04d}.txt").write_text(f"Page {page}. " + " ".join(texts[start : start + 500]))
        started = time.perf_counter()
        index = Index(base / "index", embedder=default_embedder(), on_progress=progress)
        index.update([base / "files"])
        words = time.perf_counter() - started
        question = "who was the first president of the company?"
        found = Hybrid(k=5).retrieve(Question(index, question), question, None)  # type: ignore[arg-type]
        return {
            "pages": 1000,
            "chunks": index.info().chunks,
            "full_text_s": words,
            "first_answer_s": time.perf_counter() - started,
            "found": len(found),
        }


class Remembered(Embedder):
    """The embedded model, each text once: vectors are kept in the user's cache folder, so that a stopped run goes on quickly."""

    def __init__(self) -> None:
        self._real = default_embedder()
        self.name, self.dim, self.max_tokens = self._real.name, self._real.dim, self._real.max_tokens
        self.tokenizer_json = self._real.tokenizer_json
        self._path = home.cache_dir("bench") / f"vectors-{self._real.fingerprint[-16:]}.npz"
        self.known: dict[str, Any] = {}
        if self._path.is_file():
            with np.load(self._path, allow_pickle=False) as kept:
                self.known = dict(zip(kept["texts"].tolist(), kept["vectors"], strict=True))

    def embed(self, texts: Any, kind: Any = "passage") -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known |= dict(zip(new, self._real.embed(new, kind), strict=True))
            if len(new) > 50:
                self.save()
        return np.stack([self.known[text] for text in texts])

    def save(self) -> None:
        partial = self._path.with_name("partial.npz")
        np.savez(partial, texts=np.array(list(self.known)), vectors=np.stack(list(self.known.values())))
        os.replace(partial, self._path)


def recall() -> dict[str, Any]:
    """LoCoMo: share of a question's evidence turns among the first five. natural_question: whether one of them holds the answer."""
    if data_folder() is None:
        return {"missing": "the shared data folder is not there"}
    embedder = Remembered()
    sets = {"locomo": locomo_tasks(), "natural_question": natural_question_tasks(chunker_for(embedder, 256).spans)}
    found: dict[str, Any] = {}
    for name, tasks in sets.items():
        progress(f"{name}: {sum(len(t.questions) for t in tasks)} questions")
        ours = {technique: _ranked(tasks, retriever, embedder) for technique, retriever in TECHNIQUES.items()}
        try:
            ours["LlamaIndex hybrid"] = _peer_ranked(tasks, embedder)
        except PeerMissing as missing:
            progress(str(missing))
        score: Callable[[frozenset[int], list[int]], float] = (
            (lambda right, best: len(right & set(best)) / len(right))
            if name == "locomo"
            else (lambda right, best: float(bool(right & set(best))))
        )
        scores = {
            technique: [
                score(right, best) for task, lists in zip(tasks, ranked, strict=True) for right, best in zip(task.right, lists, strict=True)
            ]
            for technique, ranked in ours.items()
        }
        gain = {t: interval([a - b for a, b in zip(scores["hybrid"], s, strict=True)]) for t, s in scores.items() if t != "hybrid"}
        embedder.save()
        found[name] = {"n": len(scores["hybrid"]), "recall_at_5": {t: interval(s) for t, s in scores.items()}, "hybrid_minus": gain}
    return found


def _ranked(tasks: list[Task], retriever: Retriever, embedder: Embedder) -> list[list[list[int]]]:
    found = []
    for task in tasks:
        documents = [Document(text, f"{n:05d}") for n, text in enumerate(task.texts)]
        corpus = InMemory(documents, chunk_tokens=100_000, embedder=Whole(embedder))
        found.append([[int(p.source) for p in retriever.retrieve(Question(corpus, q), q, None)] for q in task.questions])  # type: ignore[arg-type]
    return found


class Whole(Embedder):
    """Keeps each document one chunk, whatever its length."""

    def __init__(self, real: Embedder) -> None:
        self.name, self.dim, self.max_tokens = real.name, real.dim, 1_000_000
        self._real = real

    def embed(self, texts: Any, kind: Any = "passage") -> Any:
        return self._real.embed(texts, kind)


def _peer_ranked(tasks: list[Task], embedder: Remembered) -> list[list[list[int]]]:
    """LlamaIndex gets the same texts and, through a file, the same vectors."""
    for task in tasks:
        embedder.embed([text.strip() for text in task.texts])
        embedder.embed(task.questions, "query")
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        rows = [{"texts": [text.strip() for text in t.texts], "questions": t.questions} for t in tasks]
        (base / "tasks.json").write_text(json.dumps(rows))
        texts = list(embedder.known)
        np.savez(base / "vectors.npz", texts=np.array(texts), vectors=np.stack([embedder.known[t] for t in texts]))
        run_peer("rank", base / "tasks.json", base / "vectors.npz", base / "out.json")
        found: list[list[list[int]]] = json.loads((base / "out.json").read_text())
    return found


def bfloat16() -> dict[str, Any]:
    """Whether half precision may be used: recall@5 of vectors with both, on the same questions."""
    if data_folder() is None:
        return {"missing": "the shared data folder is not there"}
    tasks = natural_question_tasks(chunker_for(default_embedder(), 256).spans)[:8]
    found: dict[str, Any] = {"n": sum(len(t.questions) for t in tasks)}
    for dtype in ("float32", "bfloat16"):
        embedder = default_embedder(dtype=dtype)
        started = time.perf_counter()
        ranked = _ranked(tasks, TECHNIQUES["vectors"], embedder)
        seconds = time.perf_counter() - started
        hits = [float(bool(r & set(b))) for t, lists in zip(tasks, ranked, strict=True) for r, b in zip(t.right, lists, strict=True)]
        found[dtype] = {"recall_at_5": interval(hits), "seconds": seconds}
    return found


def or_missing(part: Callable[[], Any]) -> Callable[[], Any]:
    def guarded() -> Any:
        try:
            return part()
        except PeerMissing as missing:
            return {"missing": str(missing)}

    return guarded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", default=[], help="run only this part (may be given more than once)")
    parser.add_argument("--fresh", action="store_true", help="run parts again that are already there")
    asked = parser.parse_args()
    parts = Parts("indexing", only=asked.part, fresh=asked.fresh)
    model = str(embedded_folder())
    parts.run("recall", recall)
    parts.run("latency", latency)
    parts.run("memory", memory)
    parts.run("overhead", or_missing(lambda: against_llamaindex(FILES, "stored", ["stored"], ROUNDS)))
    parts.run("start", start)
    parts.run("cold", cold)
    parts.run("bfloat16", bfloat16)
    parts.run("whole", or_missing(lambda: against_llamaindex(WHOLE_FILES, "embedded", [f"{model}:10", f"{model}:128"], ROUNDS)))
    text = markdown(parts)
    parts.path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
