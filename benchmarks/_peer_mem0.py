"""mem0ai 2.2.1 in an environment of its own: this file makes the environment, and runs inside it as a worker.

Worker: `python _peer_mem0.py EMBEDDER_FOLDER STORE_FOLDER LLM_BASE_URL LLM` reads one JSON request a line and answers with one JSON line.
It imports nothing of Baywindow. Vectors are in Qdrant's own in-process store; telemetry is off; torch and sentence-transformers are
borrowed, so that both sides embed with the same weights.

What could not be had without a network: spaCy's en_core_web_sm, which its entity links and lemmas need and which is on no package index
under its authors' name (without it the package leaves both out), and the stop words of fastembed's BM25, which are left empty.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from _worker import Worker, made_environment

VERSION = "2.2.1"
PINS = (f"mem0ai=={VERSION}", "fastembed==0.9.1")


class Peer(Worker):
    def __init__(self, python: Path, embedder: Path, store: Path, base_url: str, model: str) -> None:
        super().__init__(python, __file__, embedder, store, base_url, model)


def environment(root: Path, borrowed: str) -> Path | str:
    """The Python of mem0's environment under ``root``, made on first use; or one line saying why there is none."""
    folder = root / f"mem0ai-{VERSION}"
    made = made_environment("mem0ai", folder, PINS, None)
    if isinstance(made, Path):
        site = next((folder / "lib").glob("python*/site-packages"))
        (site / "borrowed.pth").write_text(borrowed + "\n")
    return made


def worker(embedder: str, store: str, base_url: str, model: str) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever it prints is no answer
    os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": store}
    from mem0 import Memory

    settings = {
        "vector_store": {"provider": "qdrant", "config": {"path": f"{store}/qdrant", "embedding_model_dims": 384, "on_disk": True}},
        "embedder": {"provider": "huggingface", "config": {"model": embedder, "embedding_dims": 384, "model_kwargs": {"device": "cpu"}}},
        "llm": {"provider": "openai", "config": {"model": model, "api_key": "none", "openai_base_url": base_url, "max_tokens": 512}},
        "history_db_path": f"{store}/history.db",
    }
    memory = Memory.from_config(settings)
    memory.vector_store._bm25_encoder = _without_stop_words(Path(store))
    for line in sys.stdin:
        try:
            answer = done(memory, json.loads(line), store)
        except Exception as error:  # the peer's failure is a result
            answer = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"}
        print(json.dumps(answer), file=answers, flush=True)


def _without_stop_words(store: Path) -> Any:
    from fastembed import SparseTextEmbedding

    folder = store / "bm25"
    folder.mkdir(exist_ok=True)
    (folder / "english.txt").write_text("")
    return SparseTextEmbedding("Qdrant/bm25", specific_model_path=str(folder))


def done(memory: Any, request: dict[str, Any], store: str) -> dict[str, Any]:
    """``add``: messages of one user that rest on ``refs``; ``search``: the refs of the best; ``size``: bytes on disk."""
    start = time.perf_counter()
    if "add" in request:
        made = memory.add(request["add"], user_id=request["user"], metadata={"refs": request["refs"]}, infer=request["infer"])
        return {"seconds": time.perf_counter() - start, "made": len(made["results"])}
    if "search" in request:
        hits = memory.search(request["search"], filters={"user_id": request["user"]}, top_k=request["k"])["results"]
        return {"seconds": time.perf_counter() - start, "found": [hit["metadata"]["refs"] for hit in hits]}
    if "embed" in request:
        memory.embedding_model.embed(request["embed"], "search")
        return {"seconds": time.perf_counter() - start}
    return {"bytes": sum(file.stat().st_size for file in Path(store).rglob("*") if file.is_file())}


if __name__ == "__main__":
    worker(*sys.argv[1:])
