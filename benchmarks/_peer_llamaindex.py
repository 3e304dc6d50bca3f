"""What LlamaIndex does with the same files, chunk size and embedder. Run by its own interpreter, never imported by Baywindow.

python _peer_llamaindex.py index FOLDER STORE TOKENIZER.json EMBEDDER(batch)   seconds for reading, splitting, embedding, writing
python _peer_llamaindex.py rank TASKS.json VECTORS.npz OUT.json               the best five of its hybrid for every question
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from llama_index.core import Settings, SimpleDirectoryReader, StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import TextNode
from llama_index.retrievers.bm25 import BM25Retriever
from tokenizers import Tokenizer

DEPTH = 20
BEST = 5


class Stored(BaseEmbedding):
    """Vectors that were made before: by text, or (``table`` None) rows of a fixed matrix, when only the rest is timed."""

    table: dict = {}  # noqa: RUF012 - pydantic copies defaults
    rows: list = []  # noqa: RUF012

    def _get_text_embedding(self, text: str) -> list[float]:
        if self.table:
            return self.table[text]
        return self.rows[len(text) % len(self.rows)]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class MiniLM(BaseEmbedding):
    """The same sentence-transformers model as Baywindow's."""

    model: object = None

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        found = self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False, batch_size=32)
        return found.tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def peak_mb() -> float:
    """Peak memory of this process. Linux lets ru_maxrss start at the parent's peak, so the kernel's own count comes first."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def embedder_of(name: str) -> BaseEmbedding:
    kind, _, batch = name.partition(":")
    if kind == "stored":
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((997, 384)).astype(np.float32)
        return Stored(rows=(rows / np.linalg.norm(rows, axis=1, keepdims=True)).tolist(), embed_batch_size=2048)
    from sentence_transformers import SentenceTransformer

    made = MiniLM(model=SentenceTransformer(kind, device="cpu"), embed_batch_size=int(batch))
    made.get_text_embedding("warm up")
    return made


def index(folder: str, store: str, tokenizer_json: str, name: str) -> dict:
    embedder = embedder_of(name)
    tokenizer = Tokenizer.from_file(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    started = time.perf_counter()
    documents = SimpleDirectoryReader(folder, recursive=True).load_data()
    splitter = SentenceSplitter(
        chunk_size=254, chunk_overlap=0, tokenizer=lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    )
    nodes = splitter.get_nodes_from_documents(documents)
    made = VectorStoreIndex(nodes, embed_model=embedder)
    made.storage_context.persist(store)
    words = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=BEST)
    words.persist(str(Path(store) / "bm25"))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "chunks": len(nodes), "peak_mb": peak_mb()}


def rank(tasks: str, vectors: str, out: str) -> dict:
    loaded = np.load(vectors, allow_pickle=False)
    embedder = Stored(table=dict(zip(loaded["texts"].tolist(), loaded["vectors"].tolist(), strict=True)))
    Settings.llm = MockLLM()
    found = []
    for task in json.loads(Path(tasks).read_text()):
        nodes = [TextNode(text=text, id_=str(n)) for n, text in enumerate(task["texts"])]
        made = VectorStoreIndex(nodes, embed_model=embedder, storage_context=StorageContext.from_defaults())
        depth = min(DEPTH, len(nodes))
        parts = [made.as_retriever(similarity_top_k=depth), BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=depth)]
        hybrid = QueryFusionRetriever(parts, similarity_top_k=BEST, num_queries=1, mode="reciprocal_rerank", use_async=False)
        found.append([[int(hit.node.node_id) for hit in hybrid.retrieve(question)] for question in task["questions"]])
    Path(out).write_text(json.dumps(found))
    return {"tasks": len(found)}


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    print("RESULT " + json.dumps({"index": index, "rank": rank}[command](*rest)))
