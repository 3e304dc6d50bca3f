"""The LanceDB tables of one index: opening, making, and saying in one line what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from baywindow import home
from baywindow.documents.index.lance import lancedb
from baywindow.documents.index.lean import bounded_builders
from baywindow.documents.index.rows import ABOUT, CHUNKS, FORMAT, About, FileRecord, vectors_schema
from baywindow.documents.words import LONGEST_WORD, STOP_WORDS
from baywindow.errors import BayError, IndexStoreError

OLD_VERSIONS_KEPT = timedelta(hours=1)  # readers that opened an older version may go on reading it for so long
NOTHING_KEPT = timedelta(milliseconds=1)  # zero would do, but LanceDB warns of it
DISK_FULL = ("no space left", "os error 28", "os error 27", "os error 122", "quota exceeded", "file too large", "errno 28", "errno 27")


class Store:
    """An index's tables by URI: a folder, or any URI that LanceDB opens. Nothing is made until `create`."""

    def __init__(self, uri: str | Path | None = None) -> None:
        given = str(uri) if uri is not None else str(home.data_dir("index"))
        self.uri = given if "://" in given else str(Path(given).expanduser().absolute())
        self._db: Any = None
        self._tables: dict[str, Any] = {}

    @property
    def exists(self) -> bool:
        """Whether an index was made here; its last step is the ``about`` table, so half a creation counts as none."""
        return "about" in self._names()

    def about(self) -> About:
        """What the index was made with. IndexStoreError if another version of Baywindow made it."""
        with self.translated():
            rows = self.table("about").to_arrow().to_pylist()
        try:
            table = json.loads(max(rows, key=lambda row: row["n"])["json"])
            made_by = int(table["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise self.broken("its description is damaged") from error
        if made_by != FORMAT:
            raise IndexStoreError(
                f"the index {self.uri} was made by another version of Baywindow (format {made_by}, this one writes {FORMAT})",
                hint="`bay index --rebuild PATH…` makes it anew",
            )
        return About(**table)

    def set_about(self, about: About) -> None:
        """Appends the new description (one atomic commit), then drops the older ones."""
        table = self.table("about")
        with self.translated():
            last = max(table.to_arrow()["n"].to_pylist(), default=0)
            table.add(pa.table({"n": [last + 1], "json": [json.dumps(asdict(about))]}, schema=ABOUT))
            table.delete(f"n <= {last}")

    def create(self, about: About) -> None:
        """Makes the tables anew, dropping what was there. Only under the writer's lock."""
        from lancedb.index import FTS, BTree

        with self.translated():
            for name in self._names():
                self._connection().drop_table(name)
            self._tables = {}
            chunks = self._connection().create_table("chunks", schema=CHUNKS)
            words = FTS(custom_stop_words=sorted(STOP_WORDS), max_token_length=LONGEST_WORD)
            chunks.create_index("text", config=words)
            chunks.create_index("id", config=BTree())  # halves the time to fetch the passages of a vector search
            table = pa.table({"n": [1], "json": [json.dumps(asdict(about))]}, schema=ABOUT)
            self._connection().create_table("about", table)
        self._tables = {}

    def table(self, name: str) -> Any:
        """A table at its newest version; later calls see the same version until `refresh`."""
        if name not in self._tables:
            with self.translated():
                self._tables[name] = self._connection().open_table(name)
        return self._tables[name]

    def vectors(self, dim: int = 0) -> Any | None:
        """The table of vectors, made if ``dim`` is given, else None while there is none."""
        if "vectors" not in self._names():
            if not dim:
                return None
            with self.translated():
                self._tables["vectors"] = self._connection().create_table("vectors", schema=vectors_schema(dim))
        return self.table("vectors")

    def drop_vectors(self) -> None:
        with self.translated():
            if "vectors" in self._names():
                self._connection().drop_table("vectors")
        self._tables.pop("vectors", None)

    def refresh(self) -> None:
        """Forget the versions that were opened: the next call sees the newest."""
        self._tables = {}

    def records(self) -> dict[str, FileRecord]:
        """Every finished file by path; of two with one path the newer, for the older one is about to be deleted."""
        with self.translated():
            rows = self.table("chunks").search().where("path IS NOT NULL").select(["id", "path", "record"]).to_arrow()
        found: dict[str, FileRecord] = {}
        try:
            for row_id, path, record in zip(*(rows[name].to_pylist() for name in ("id", "path", "record")), strict=True):
                if path not in found or found[path].number < row_id >> 24:
                    found[path] = FileRecord.of_row(row_id, path, record)
        except (ValueError, KeyError, TypeError) as error:
            raise self.broken("a file's record is damaged") from error
        return found

    def tidy(self, name: str, *, keep: timedelta = OLD_VERSIONS_KEPT) -> None:
        """Brings full text and vector indexes up to date with the rows, joins small files, drops old versions."""
        with self.translated():
            # Under the writer's lock nobody else writes, so files no version knows are leftovers of a killed run.
            self.table(name).optimize(cleanup_older_than=keep, delete_unverified=True)

    def size_bytes(self) -> int | None:
        """Bytes on disk; None for an index that is not on this machine."""
        if "://" in self.uri:
            return None
        return sum(f.stat().st_size for f in Path(self.uri).rglob("*") if f.is_file())

    def broken(self, why: str) -> IndexStoreError:
        return IndexStoreError(f"the index {self.uri} cannot be used: {why}", hint="`bay index --rebuild PATH…` makes it anew")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """LanceDB's errors as one line: a full disk, or an index that cannot be used."""
        try:
            yield
        except BayError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            raise self.explained(error) from error

    def explained(self, error: BaseException) -> IndexStoreError:
        text = str(error)
        if any(sign in text.lower() for sign in DISK_FULL):
            return IndexStoreError(
                f"the disk is full: {self.uri} cannot grow", hint="free some space and run it again; what was indexed is kept"
            )
        first = (text.strip().splitlines() or [type(error).__name__])[0][:200]
        if "permission denied" in text.lower() or "read-only" in text.lower():
            return IndexStoreError(f"the index {self.uri} cannot be written: permission denied", hint="check its permissions")
        return self.broken(first)

    def _connection(self) -> Any:
        if self._db is None:
            bounded_builders()
            database = lancedb()
            with self.translated():
                self._db = database.connect(self.uri)
        return self._db

    def _names(self) -> list[str]:
        if "://" not in self.uri and not Path(self.uri).is_dir():
            return []
        with self.translated():
            return list(self._connection().list_tables().tables)
