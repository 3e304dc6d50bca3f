"""Brings an index up to date, in commits that each hold whole files.

Why a kill at any moment does no harm: LanceDB publishes a version of a table by one atomic step, and a file's own row (without which
none of its chunks is shown) is in the same version as its last chunk. New rows are added before the old file's rows are deleted; in
between, the higher file number wins. What a killed run leaves behind (rows of an unfinished file, older copies) is deleted when the
next writer starts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from baywindow.documents.chunks import Chunk, Chunker, Cutter
from baywindow.documents.extract import Extraction, NotTextError, extract
from baywindow.documents.extract.base import unreadable
from baywindow.documents.index.plan import Candidate, Plan, digest_of
from baywindow.documents.index.rows import CHUNKS, FILE_BITS, FileRecord, chunk_rows, file_rows, ids_within
from baywindow.documents.index.store import Store
from baywindow.documents.progress import Progress, Tell
from baywindow.documents.walk import shown
from baywindow.errors import SourceError

COMMIT_CHARACTERS = 8_000_000  # of text held in memory before it is committed; a longer file streams
COMMIT_SECONDS = 5.0  # so that little is lost when a long run is stopped
STREAM_CHUNKS = 512


@dataclass
class Done:
    """What an update did. ``notes`` name the files that were passed over and why."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    binary: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        notes = [f"passed over {self.binary} binary {'file' if self.binary == 1 else 'files'}"] if self.binary else []
        notes += [f"passed over {text}" for text in self.failed[:5]]
        if len(self.failed) > 5:
            notes.append(f"passed over {len(self.failed) - 5} more files that cannot be read")
        return tuple(notes)


class Updater:
    """Writes what a plan says. Only under the writer's lock; one use."""

    def __init__(self, store: Store, chunker: Chunker, tell: Tell | None = None) -> None:
        self._store = store
        self._chunker = chunker
        self._tell = tell
        self._stop = threading.Event()
        self._next = 1
        self._rows: list[pa.Table] = []
        self._characters = 0
        self._old: list[int] = []
        self._touched: list[FileRecord] = []
        self._since = time.monotonic()
        self.done = Done()

    def run(self, plan: Plan) -> Done:
        """IndexStoreError if it cannot be written, SourceError for a named file that cannot be read. What was committed stays."""
        self._next = remove_leftovers(self._store) + 1
        self.done.unchanged = plan.unchanged
        progress = Progress("reading", sum(c.stat.st_size for c in plan.candidates), self._tell)
        try:
            self._old += [record.number for record in plan.gone]
            self.done.removed = len(plan.gone)
            for candidate in plan.candidates:
                self._take(candidate)
                progress.step(candidate.stat.st_size, shown(candidate.path))
                if self._characters > COMMIT_CHARACTERS or time.monotonic() - self._since > COMMIT_SECONDS:
                    self._commit()
        except SourceError:
            self._commit()  # what was read before it is good
            raise
        except KeyboardInterrupt:
            self._stop.set()
            raise
        self._commit()
        return self.done

    def _take(self, candidate: Candidate) -> None:
        try:
            digest = digest_of(candidate.path)
            old = candidate.record
            if old is not None and old.digest == digest:
                self._touched.append(replace(old, mtime_ns=candidate.stat.st_mtime_ns, size_bytes=candidate.stat.st_size))
                self.done.unchanged += 1
                return
            self._read(candidate, digest, extract(candidate.path))
        except OSError as error:
            self._refuse(candidate, unreadable(candidate.path, error))
        except SourceError as error:
            self._refuse(candidate, error)

    def _refuse(self, candidate: Candidate, error: SourceError) -> None:
        """A named file that cannot be read is an error; in a folder it is passed over, and what the index held of it goes."""
        if candidate.named:
            raise error
        if isinstance(error, NotTextError):
            self.done.binary += 1
        else:
            self.done.failed.append(error.message)
        if candidate.record is not None:
            self._old.append(candidate.record.number)

    def _read(self, candidate: Candidate, digest: str, source: Extraction) -> None:
        number = self._next
        self._next += 1
        cutter = Cutter(self._chunker, source.form, source.paged)
        chunks: list[Chunk] = []
        coming = cutter.chunks(source.blocks)
        for chunk in coming:
            chunks.append(chunk)
            if cutter.characters > COMMIT_CHARACTERS:
                break
        draft = FileRecord(
            path=str(candidate.path),
            digest=digest,
            mtime_ns=candidate.stat.st_mtime_ns,
            size_bytes=candidate.stat.st_size,
            characters=cutter.characters,
            chunks=len(chunks),
            indexed_at=time.time(),
            form=source.form,
            number=number,
        )
        if cutter.characters > COMMIT_CHARACTERS:
            self._commit()
            self._stream(_Stream(draft, cutter, source, chunks, coming))
        else:
            done = replace(draft, tail=cutter.tail, notes=tuple(source.notes))
            self._rows += [chunk_rows(number, 0, chunks), file_rows([done])]
            self._characters += cutter.characters
        self._count(candidate)

    def _count(self, candidate: Candidate) -> None:
        if candidate.record is None:
            self.done.added += 1
        else:
            self.done.changed += 1
            self._old.append(candidate.record.number)

    def _stream(self, stream: _Stream) -> None:
        """One commit for a long file, whose rows are made while they are written; memory holds a few hundred chunks."""
        reader = pa.RecordBatchReader.from_batches(CHUNKS, stream.batches(self._stop))
        with self._store.translated():
            try:
                self._store.table("chunks").add(reader)
            except (OSError, RuntimeError, ValueError):
                if stream.error is not None:
                    raise stream.error from None
                raise
        if stream.error is not None:
            self._old.append(stream.draft.number)
            raise stream.error

    def _commit(self) -> None:
        table = self._store.table("chunks")
        with self._store.translated():
            if self._rows:
                table.add(pa.concat_tables(self._rows))
            self._rows, self._characters = [], 0
            if self._touched:
                table.merge_insert("id").when_matched_update_all().execute(file_rows(self._touched))
            self._touched = []
            if self._old:
                table.delete(ids_within(self._old))
            self._old = []
        self._since = time.monotonic()


@dataclass
class _Stream:
    """A long file on its way into the table. Errors are kept for the writer's thread: none may cross LanceDB's own."""

    draft: FileRecord
    cutter: Cutter
    source: Extraction
    first: list[Chunk]
    rest: Iterator[Chunk]
    error: SourceError | None = None

    def batches(self, stop: threading.Event) -> Iterator[pa.RecordBatch]:
        sent = 0
        try:
            while pending := self._some():
                yield from chunk_rows(self.draft.number, sent, pending).to_batches()
                sent += len(pending)
                if stop.is_set():
                    return  # without the file's own row: what was written is not shown
        except OSError as error:
            self.error = SourceError(f"{self.draft.path} cannot be read: {error.strerror}", hint="check its permissions")
            return
        except SourceError as error:
            self.error = error
            return
        done = replace(self.draft, chunks=sent, characters=self.cutter.characters, tail=self.cutter.tail, notes=tuple(self.source.notes))
        yield from file_rows([done]).to_batches()

    def _some(self) -> list[Chunk]:
        while len(self.first) < STREAM_CHUNKS and (chunk := next(self.rest, None)) is not None:
            self.first.append(chunk)
        pending, self.first = self.first[:STREAM_CHUNKS], self.first[STREAM_CHUNKS:]
        return pending


def remove_leftovers(store: Store) -> int:
    """Deletes rows of files that were never finished or have a newer copy; the highest file number there ever was."""
    kept = {record.number for record in store.records().values()}
    with store.translated():
        numbers = _numbers(store.table("chunks"))
        if leftovers := set(numbers) - kept:
            store.table("chunks").delete(ids_within(leftovers))
        vectors = store.vectors()
        stale = set(_numbers(vectors)) - kept if vectors is not None else set()
        if stale and vectors is not None:
            vectors.delete(ids_within(stale))
    return max([*numbers, *stale], default=0)


def _numbers(table: object) -> Sequence[int]:
    ids = table.search().select(["id"]).to_arrow()["id"].to_numpy()  # type: ignore[attr-defined]
    return [int(n) for n in np.unique(ids >> FILE_BITS)]
