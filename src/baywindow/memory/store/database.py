"""One database, SQLite in a folder or PostgreSQL by URL: opening it, bringing it up to date, transactions, locks, errors in one line."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy import event

from baywindow.errors import BayError, MemoryBusyError, MemoryStoreError, MissingExtraError
from baywindow.memory.store.tables import FORM

FILE = "memory.sqlite"
WAIT_S = 600.0  # for another writer in the same home: its model may be slow
BUSY_S = 60.0  # for another process in the middle of a transaction
ONE_WRITER = 0x6261795F6D656D  # any number that others are unlikely to lock
DISK_FULL = ("database or disk is full", "no space left", "disk i/o error", "could not extend file", "disk full", "quota exceeded")
ONE_UPGRADE = threading.Lock()  # Alembic keeps what it works on in its modules: two databases at a time would get each other's tables
DAMAGED = ("malformed", "not a database", "file is encrypted")


class Database:
    """``folder`` is None for PostgreSQL. Safe to use from several threads and processes."""

    def __init__(self, where: str | Path) -> None:
        given = str(where)
        remote = "://" in given
        if remote and not given.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
            raise MemoryStoreError(f"{_public(given)} is no memory store", hint="a folder, or postgresql://user@host/database")
        self.folder = None if remote else Path(given).expanduser().absolute()
        self.where = _public(given) if remote else str(self.folder)
        self._engine = _postgres(given) if remote else _sqlite(self.folder or Path())
        try:
            self._bring_up_to_date()
        except BaseException:
            self.close()
            raise

    @property
    def postgres(self) -> bool:
        return self.folder is None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of everything."""
        with self.translated(), self._engine.connect() as connection:
            options = {"isolation_level": "REPEATABLE READ"} if self.postgres else {"bay_begin": "BEGIN"}
            reader = connection.execution_options(**options)
            with reader.begin():
                yield reader

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes all or nothing; others that write wait for its end, on PostgreSQL as on SQLite."""
        with self.translated(), self._engine.connect() as connection:
            writer = connection.execution_options(bay_begin="BEGIN IMMEDIATE")
            with writer.begin():
                if self.postgres:
                    writer.execute(sa.select(sa.func.pg_advisory_xact_lock(ONE_WRITER)))
                yield writer

    @contextmanager
    def outside_transactions(self) -> Iterator[sa.Connection]:
        """For one statement that reads, since that sees one state by itself; and for VACUUM and its like, which no transaction allows."""
        with self.translated(), self._engine.connect() as connection:
            options = {"isolation_level": "AUTOCOMMIT"} if self.postgres else {"bay_begin": ""}
            yield connection.execution_options(**options)

    @contextmanager
    def lock(self, *names: str) -> Iterator[None]:
        """Hold a lock by name, across processes; the system frees it when its process ends. MemoryBusyError after ``WAIT_S``."""
        key = hashlib.blake2b("\0".join(names).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if self.folder is None:
            with self._postgres_lock(int.from_bytes(key, signed=True)):
                yield
            return
        place = self.folder / "locks" / key.hex()
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place, timeout=WAIT_S)
        try:
            lock.acquire()
        except Timeout:
            raise self.busy() from None
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        self._engine.dispose()

    def broken(self, why: str) -> MemoryStoreError:
        return MemoryStoreError(
            f"the memory {self.where} cannot be used: {why}", hint="restore what `bay memory export` wrote, or name another"
        )

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The database's errors as one line."""
        try:
            yield
        except BayError:
            raise
        except (sa.exc.DBAPIError, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> MemoryStoreError:
        text = str(getattr(error, "orig", None) or error)
        low = text.lower()
        if any(sign in low for sign in DISK_FULL):
            return MemoryStoreError(
                f"the disk is full: the memory {self.where} cannot grow", hint="free some space and say it again; what was stored is kept"
            )
        if "locked" in low or "lock timeout" in low:
            return self.busy()
        if any(sign in low for sign in DAMAGED):
            return self.broken("its file is damaged")
        if "readonly" in low or "permission denied" in low:
            return MemoryStoreError(f"the memory {self.where} cannot be written: permission denied", hint="check its permissions")
        return self.broken((text.strip().splitlines() or [type(error).__name__])[0][:200])

    def busy(self) -> MemoryBusyError:
        return MemoryBusyError(f"another process is writing the memory {self.where}", hint="try again when it is done; nothing is lost")

    @contextmanager
    def _postgres_lock(self, key: int) -> Iterator[None]:
        with self.outside_transactions() as connection:
            connection.execute(sa.text(f"SET lock_timeout = {int(WAIT_S * 1000)}"))
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": key})
            try:
                yield
            finally:
                connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
                connection.execute(sa.text("SET lock_timeout = 0"))

    def _bring_up_to_date(self) -> None:
        if self._form() == FORM:
            return
        with self.lock("migrate"):
            found = self._form()
            if found is not None and found > FORM:
                raise MemoryStoreError(
                    f"the memory {self.where} was written by a newer version of Baywindow (form {found}, this one knows {FORM})",
                    hint="update Baywindow",
                )
            if found != FORM:
                self.upgrade(FORM)

    def upgrade(self, form: str) -> None:
        """Bring the tables to a revision. In one transaction: killed in between, the old form stays."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        with ONE_UPGRADE, self.writing() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, form)

    def _form(self) -> str | None:
        """The revision of the tables that are there; None for an empty database."""
        with self.reading() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())


def _to_wal(connection: Any) -> None:
    """SQLite does not wait for its busy time where two processes change the journal of a new file at once; so this does."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _sqlite(folder: Path) -> sa.Engine:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemoryStoreError(f"{folder} cannot be made: {error.strerror}", hint="name a folder that can be written") from None
    engine = sa.create_engine(f"sqlite:///{folder / FILE}", connect_args={"timeout": BUSY_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, record: object) -> None:
        connection.isolation_level = None  # Python's own BEGIN comes too late for a consistent read
        _to_wal(connection)
        for pragma in ("synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY", "cache_size = -32000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        if begin := connection.get_execution_options().get("bay_begin", "BEGIN"):
            connection.exec_driver_sql(begin)

    return engine


def _postgres(url: str) -> sa.Engine:
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError.of(f"what talks to PostgreSQL ({error.name})", "postgres") from None
    return sa.create_engine("postgresql+psycopg://" + url.partition("://")[2], pool_pre_ping=True)


def _public(url: str) -> str:
    """A URL without its password."""
    return sa.engine.make_url(url).render_as_string(hide_password=True)
