"""What the tables of an index hold, and how ids tell which file a row belongs to.

``chunks``: one row a chunk and one a file. A file has a number; its rows have ids from ``number << FILE_BITS`` on: the first is the
file's own row (``path`` and ``record`` set, no text), the chunks follow in reading order. A file's own row is written with its last
chunk, in one commit: chunks without it are not of a finished file and are never shown. Of two files of one path the higher number
counts. ``vectors``: id of a chunk and its vector. ``about``: what the index was made with; the row with the highest ``n`` counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from baywindow.documents.chunks import Chunk
from baywindow.documents.extract.base import Form

FORMAT = 1  # of the tables; another number means another version of Baywindow made them
FILE_BITS = 24

CHUNKS = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("lead", pa.string()),
        ("lead_at", pa.int64()),
        ("start_at", pa.int64()),
        ("end_at", pa.int64()),
        ("line", pa.int64()),
        ("page", pa.int64()),
        ("label", pa.string()),
        ("path", pa.string()),
        ("record", pa.string()),
    ]
)
ABOUT = pa.schema([("n", pa.int64()), ("json", pa.string())])
FOUND = ["id", "text", "start_at", "end_at", "line", "page", "label"]  # what a passage needs


def vectors_schema(dim: int) -> pa.Schema:
    return pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """What is known of one file of the index. ``tail`` is the white space after its last chunk."""

    path: str
    digest: str
    mtime_ns: int
    size_bytes: int
    characters: int
    chunks: int
    indexed_at: float  # seconds since the epoch
    form: Form = "text"
    tail: str = ""
    notes: tuple[str, ...] = ()
    number: int = 0

    def to_json(self) -> str:
        return json.dumps({k: v for k, v in asdict(self).items() if k not in ("path", "number")})

    @classmethod
    def of_row(cls, row_id: int, path: str, record: str) -> FileRecord:
        table: dict[str, Any] = json.loads(record)
        table["notes"] = tuple(table["notes"])
        return cls(path=path, number=row_id >> FILE_BITS, **table)


@dataclass(frozen=True, kw_only=True)
class About:
    """What an index was made with, and what is known of its approximate search. Embedder fields are empty until it is used."""

    format: int = FORMAT
    chunk_tokens: int = 0
    tokenizer: str = ""  # a digest; chunks were sized by it
    embedder: str = ""  # fingerprint
    embedder_name: str = ""
    dim: int = 0
    nprobes: int = 0  # 0: no approximate index
    recall_at_10: float = 0.0
    measured_vectors: int = 0  # how many there were when the two above were measured
    roots: dict[str, float] = field(default_factory=dict)  # absolute path → when it was last brought up to date


def chunk_rows(number: int, first: int, chunks: Sequence[Chunk]) -> pa.Table:
    """Rows of consecutive chunks of a file; ``first`` is the place of the first of them in the file."""
    base = (number << FILE_BITS) + 1 + first
    count = len(chunks)
    return pa.table(
        {
            "id": pa.array(range(base, base + count), pa.int64()),
            "text": [c.text for c in chunks],
            "lead": [c.lead for c in chunks],
            "lead_at": [c.start - len(c.lead) for c in chunks],
            "start_at": [c.start for c in chunks],
            "end_at": [c.end for c in chunks],
            "line": [c.line for c in chunks],
            "page": [c.page for c in chunks],
            "label": [c.label for c in chunks],
            "path": pa.nulls(count, pa.string()),
            "record": pa.nulls(count, pa.string()),
        },
        schema=CHUNKS,
    )


def file_rows(records: Sequence[FileRecord]) -> pa.Table:
    columns: dict[str, Any] = {name: pa.nulls(len(records), CHUNKS.field(name).type) for name in CHUNKS.names}
    columns["id"] = pa.array([r.number << FILE_BITS for r in records], pa.int64())
    columns["path"] = [r.path for r in records]
    columns["record"] = [r.to_json() for r in records]
    return pa.table(columns, schema=CHUNKS)


def vector_rows(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    return pa.table({"id": pa.array(ids), "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})


def ids_within(numbers: Iterable[int]) -> str:
    """An SQL condition for all rows of some files. Neighbouring numbers share a range, so a folder is mostly one range."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    parts = [f"(id >= {a << FILE_BITS} AND id < {(b + 1) << FILE_BITS})" for a, b in runs]
    return "(" + (" OR ".join(parts) or "false") + ")"
