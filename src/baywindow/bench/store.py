"""The results of a run: one SQLite file, one row a (sample, turn, recipe), written as they come.

Write-ahead logging makes every committed row survive a kill at any moment; the row in flight is lost and nothing else. One process
writes a store at a time. A store says of which form it is, and another form is refused instead of guessed at.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from baywindow.errors import ResultsError

SCHEMA = 1
SUFFIX = ".bay.sqlite"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One reply measured. Seconds are of the wall clock, ``cpu_seconds`` of this process's threads; bytes are bytes; NLL is in nats,
    the mean over the tokens of the gold answer. None where a figure does not apply or was not measured."""

    model: str
    task: str
    length: int  # asked for; 0 for a task of fixed texts
    sample: int  # number within the cell, which is also the seed
    turn: int
    recipe: str
    recipe_hash: str
    protocol: str  # how the question met the context, see `bench.measure`
    sample_id: str = ""
    depth: float | None = None
    tokens: int | None = None
    reply: str | None = None
    score: float | None = None
    nll: float | None = None
    nll_tokens: int | None = None
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None
    kv_bytes: int | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    calls: int | None = None
    usd: float | None = None
    notes: str = ""
    error: str = ""
    machine: int = 0  # number in the table of machines and versions
    made_at: float = 0.0  # seconds since 1970

    @property
    def key(self) -> tuple[str, str, int, int, int, str]:
        return (self.model, self.task, self.length, self.sample, self.turn, self.recipe_hash)


KEY = ("model", "task", "length", "sample", "turn", "recipe_hash")
_COLUMNS = tuple(field.name for field in fields(Row))
_TYPES = {"str": "TEXT", "int": "INTEGER", "float": "REAL"}


class Store:
    """Open for reading by anybody, for writing by one. Use as a context manager.

    ResultsError if there is no such store, if it is no store or one of another form, or if another process writes it.
    """

    def __init__(self, path: Path, *, write: bool = False, make: bool = False) -> None:
        self.path = path
        self._lock = FileLock(f"{path}.lock") if write else None
        if not make and not path.is_file():
            raise ResultsError(f"there are no results at {path}", hint="`bay bench runs` lists what there is")
        if self._lock is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise ResultsError(f"another run is writing {path}", hint="wait for it, or give this one another name with --run") from None
        try:
            self._open(write)
        except BaseException:
            self.close()
            raise

    def _open(self, write: bool) -> None:
        new = not self.path.exists()
        target = str(self.path) if write else f"{self.path.resolve().as_uri()}?mode=ro"
        self._db = sqlite3.connect(target, uri=not write, isolation_level=None)
        try:
            if new:
                self._make()
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            named = self._db.execute("SELECT name FROM sqlite_master WHERE name = 'rows'").fetchone()
        except sqlite3.DatabaseError as error:
            raise ResultsError(f"{self.path} is no store of results: {error}", hint="give the path of a run") from None
        if named is None or found == 0:
            raise ResultsError(f"{self.path} is no store of results", hint="give the path of a run")
        if found != SCHEMA:
            raise ResultsError(
                f"{self.path} has form {found}, this version of Baywindow reads form {SCHEMA}",
                hint="use the version that made it, or start a new run",
            )
        if write:
            self._db.execute("PRAGMA synchronous = NORMAL")  # with WAL: a power cut may lose the last rows, a kill none

    def _make(self) -> None:
        columns = ", ".join(f"{f.name} {_TYPES[str(f.type).partition(' ')[0]]}" for f in fields(Row))
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(
            f"BEGIN; CREATE TABLE rows ({columns}, UNIQUE ({', '.join(KEY)}));"
            "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT);"
            "CREATE TABLE machines (id INTEGER PRIMARY KEY, value TEXT UNIQUE);"
            f"PRAGMA user_version = {SCHEMA}; COMMIT;"
        )

    def add(self, rows: Iterable[Row]) -> None:
        """Keep these rows, all or none; one that was there with an error is replaced."""
        marks = ", ".join("?" for _ in _COLUMNS)
        values = [dataclasses.astuple(dataclasses.replace(row, made_at=row.made_at or time.time())) for row in rows]
        self._db.execute("BEGIN")
        try:
            self._db.executemany(f"INSERT OR REPLACE INTO rows ({', '.join(_COLUMNS)}) VALUES ({marks})", values)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def rows(self) -> list[Row]:
        """Everything, in a fixed order."""
        order = "model, task, length, recipe, sample, turn"
        found = self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM rows ORDER BY {order}").fetchall()
        return [Row(**dict(zip(_COLUMNS, values, strict=True))) for values in found]

    def keys(self) -> set[tuple[Any, ...]]:
        """The keys of all rows: what need not be measured again."""
        return set(self._db.execute(f"SELECT {', '.join(KEY)} FROM rows").fetchall())

    def fact(self, name: str, default: Any = None) -> Any:
        """A value kept beside the rows (the plan, what was dropped), as it was put in."""
        found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if found is None else json.loads(found[0])

    def facts(self) -> dict[str, Any]:
        return {name: json.loads(value) for name, value in self._db.execute("SELECT name, value FROM facts ORDER BY name")}

    def set_fact(self, name: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value, sort_keys=True)))

    def machine(self, described: Mapping[str, Any]) -> int:
        """The number of this machine with these versions, new if it was not met before."""
        text = json.dumps(described, sort_keys=True)
        self._db.execute("INSERT OR IGNORE INTO machines (value) VALUES (?)", (text,))
        return int(self._db.execute("SELECT id FROM machines WHERE value = ?", (text,)).fetchone()[0])

    def machines(self) -> dict[int, dict[str, Any]]:
        return {int(i): json.loads(value) for i, value in self._db.execute("SELECT id, value FROM machines")}

    def close(self) -> None:
        """The write-ahead log is folded into the file, so that the file alone can be copied."""
        db = getattr(self, "_db", None)
        if db is not None:
            db.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
