"""Peak memory of LanceDB's word index alone: what notes/index.md says of memory was printed by this.

[NAME=VALUE …] python _words_memory.py MEGABYTES [once | stepSIZE]      environment: MALLOC_ARENA_MAX, LANCE_FTS_NUM_SHARDS, …
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta

import lancedb
import pyarrow as pa
from _ours_index import peak_mb
from lancedb.index import FTS

LINE = "The quick brown fox number {} jumps over the lazy dog while others look on and say nothing of it at all.\n"
LINES = 10  # a row
ROW_BYTES = 1080
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
NOTHING_KEPT = timedelta(milliseconds=1)


def batches(first: int, end: int) -> Iterator[pa.RecordBatch]:
    for at in range(first, end, 512):
        ids = range(at, min(end, at + 512))
        texts = ["".join(LINE.format(i * LINES + n) for n in range(LINES)) for i in ids]
        yield pa.record_batch({"id": pa.array(ids, pa.int64()), "text": texts}, schema=SCHEMA)


def main(megabytes: str, mode: str = "once") -> None:
    rows = int(float(megabytes) * 1e6 / ROW_BYTES)
    step = rows if mode == "once" else int(float(mode.removeprefix("step")) * 1e6 / ROW_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        table = lancedb.connect(folder).create_table("words", schema=SCHEMA)
        table.create_index("text", config=FTS(with_position=False))
        for at in range(0, rows, step):
            table.add(pa.RecordBatchReader.from_batches(SCHEMA, batches(at, min(rows, at + step))))
            added = peak_mb()
            table.optimize(cleanup_older_than=NOTHING_KEPT, delete_unverified=True)
        print(f"{megabytes} MB, {mode}: peak {added:.0f} MB before the index, {peak_mb():.0f} MB after it")


if __name__ == "__main__":
    main(*sys.argv[1:])
