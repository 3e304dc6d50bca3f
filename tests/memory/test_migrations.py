"""An older store is brought up to date when it is opened; a newer one is refused; a new one is what the code says."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from baywindow.errors import MemoryStoreError
from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope
from baywindow.memory.store import Store, database
from baywindow.memory.store.tables import FORM, metadata

SCRIPTS = Path(database.__file__).parent / "migrations"


def older(folder: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store as the version of that revision left it, with one turn in it."""
    with monkeypatch.context() as patch:
        patch.setattr(database, "FORM", form)
        database.Database(folder).close()
    connection = sqlite3.connect(folder / database.FILE)
    connection.execute(
        "INSERT INTO turns (id, user, agent, session, role, speaker, text, said_at, ref, data, batch) "
        "VALUES ('t1', 'me', '', '', 'user', 'Ann', 'the cat sleeps', '2024-05-08 12:00:00', '', '{}', 'b1')"
    )
    connection.commit()
    connection.close()


def test_an_older_store_is_brought_up_to_date_and_searchable(tmp_path: Path, monkeypatch, make_memory) -> None:
    older(tmp_path / "memory", "0001", monkeypatch)
    memory = make_memory()
    assert [one.text for one in memory.search("where is the cat")] == ["Ann: the cat sleeps"]
    memory.add("and the dog barks")
    assert len(memory.list()) == 2


def test_tables_after_all_revisions_are_those_of_the_code(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, metadata) == []
        assert set(sa.inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
    store.close()


def test_the_newest_revision_is_the_one_the_code_wants() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [FORM]


def test_a_newer_store_is_refused(tmp_path: Path, make_memory) -> None:
    make_memory().close()
    connection = sqlite3.connect(tmp_path / "memory" / database.FILE)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(MemoryStoreError, match="newer version of Baywindow"):
        make_memory()


def test_several_may_open_a_new_store_at_once(tmp_path: Path, embedder) -> None:
    failed: list[BaseException] = []

    def open_and_add(n: int) -> None:
        try:
            with Memory(tmp_path / "m", "turn_retrieval(by='words')", embedder=embedder) as memory:
                memory.add(f"thread {n}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=open_and_add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with Memory(tmp_path / "m", embedder=embedder) as memory:
        assert len(memory.list()) == 4


def test_many_new_memories_may_be_opened_at_once(tmp_path):
    """Alembic keeps its state in its modules; without a lock this ended in tables made twice, or in a crash."""

    def open_one(n):
        with Memory(tmp_path / str(n), "last_turns") as memory:
            memory.add(f"hello number {n}", Scope("a"))
            return [one.text for one in memory.list(Scope("a"))]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(open_one, range(12))) == [[f"hello number {n}"] for n in range(12)]
