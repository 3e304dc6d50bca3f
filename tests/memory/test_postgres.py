"""The same memory in a real PostgreSQL with pgvector. One server for all tests here, a database for each."""

from __future__ import annotations

import itertools
import logging
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from baywindow.errors import MemoryStoreError
from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope

from .pairs import Pairs
from .test_faults import check_whole, start

numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    pgserver = pytest.importorskip("pgserver", reason="needs postgres: the package pgserver")
    pytest.importorskip("psycopg", reason="needs postgres: the package psycopg")
    logging.getLogger("pgserver").setLevel(logging.WARNING)
    # Not below pytest's own folder: run by root, the server has a user of its own, who may not look in there.
    with tempfile.TemporaryDirectory(prefix="bay-postgres-", ignore_cleanup_errors=True) as folder:
        try:
            started = pgserver.get_server(folder, cleanup_mode="stop")
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
            pytest.skip(f"needs postgres: it does not start here: {error}")
        yield started
        started.cleanup()


@pytest.fixture
def url(server: Any) -> str:
    name = f"test{next(numbers)}"
    server.psql(f"CREATE DATABASE {name};")
    return str(server.get_uri(name))


@pytest.fixture
def in_postgres(url: str, make_memory: Callable[..., Memory]) -> Callable[..., Memory]:
    return lambda system="turn_retrieval", **given: make_memory(system, where=url, **given)


def test_what_is_found_there_is_what_sqlite_finds(in_postgres, make_memory, tmp_path: Path) -> None:
    lines = ["the cat sleeps on the mat", "rain falls on the roof", "gold is heavy", "the cat and the gold", "nothing of the kind"]
    for by in ("words", "meaning", "both"):
        found = []
        for make in (in_postgres, make_memory):
            memory = make(f"turn_retrieval(by={by!r})")
            memory.add(lines, Scope("ann", session="1"))
            memory.add("gold of bob", Scope("bob"))
            found.append([(one.text, pytest.approx(one.score, abs=1e-5)) for one in memory.search("heavy gold of the cat", Scope("ann"))])
            assert [one.text for one in memory.search("gold", Scope("ann", session="2"))] == []
        assert found[0] == found[1]


def test_history_undo_forgetting_export_and_compact(in_postgres, make_memory, url: str, tmp_path: Path) -> None:
    memory = in_postgres(Pairs())
    for n in range(3):
        memory.add(f"w says {n}", Scope("ann", session="w"))
    assert check_whole(memory, "w", 3) == 3
    last = next(r for r in memory.list(Scope("ann")) if r.kind == "last")
    history = memory.history(last.id, Scope("ann"))
    assert [v.text for v in history.versions] == [f"last is w says {n}" for n in range(3)]
    memory.undo(history.decisions[-1], Scope("ann"))
    assert memory.history(last.id, Scope("ann")).versions[1].current
    memory.export(tmp_path / "x.jsonl", Scope("ann"))
    other = make_memory(Pairs(), where=tmp_path / "other")
    assert other.import_(tmp_path / "x.jsonl") == 12
    memory.forget(query="says 1", scope=Scope("ann"))
    assert not [one for one in memory.search("says 1", Scope("ann"), 20) if "says 1" in one.text]
    memory.compact()
    assert len(memory.list(Scope("ann"), said=True)) == 2
    again = in_postgres(Pairs())
    assert len(again.list(Scope("ann"), said=True)) == 2


def test_two_writers_lose_nothing(in_postgres, url: str) -> None:
    writers = {name: start(url, name, 6) for name in ("left", "right")}
    for process in writers.values():
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    memory = in_postgres(Pairs())
    assert [check_whole(memory, name, 6) for name in writers] == [6, 6]


def test_a_server_that_is_not_there_is_one_line_without_the_password(make_memory) -> None:
    pytest.importorskip("psycopg", reason="needs postgres: the package psycopg")
    with pytest.raises(MemoryStoreError) as caught:
        make_memory(where="postgresql://me:secret@127.0.0.1:1/none")
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)
