"""The store: what is written is there, once; who may write; what is refused."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from baywindow.bench.store import SCHEMA, Row, Store
from baywindow.errors import ResultsError

ROW = Row(model="m", task="t", length=64, sample=0, turn=0, recipe="stock", recipe_hash="h", protocol="prompt", score=0.5, made_at=1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.bay.sqlite"


def test_rows_come_back_as_they_were(path: Path) -> None:
    full = replace(ROW, sample=1, depth=0.25, nll=1.5, kv_bytes=10, reply="it's “so”", notes="n", error="")
    with Store(path, write=True, make=True) as store:
        store.add([full, ROW])
        assert store.rows() == [ROW, full]
    with Store(path) as store:
        assert store.rows() == [ROW, full]
        assert store.keys() == {ROW.key, full.key}


def test_a_row_measured_again_takes_the_place_of_the_first(path: Path) -> None:
    with Store(path, write=True, make=True) as store:
        store.add([replace(ROW, error="failed", score=None)])
        store.add([ROW])
        assert store.rows() == [ROW]


def test_rows_of_one_call_come_together_or_not_at_all(path: Path) -> None:
    with Store(path, write=True, make=True) as store:
        with pytest.raises(sqlite3.Error):
            store.add([ROW, replace(ROW, sample=1, score=object())])  # type: ignore[arg-type]
        assert store.rows() == []


def test_facts_and_machines_are_kept(path: Path) -> None:
    with Store(path, write=True, make=True) as store:
        store.set_fact("plan", {"a": [1, 2]})
        assert store.machine({"cpu": "x"}) == store.machine({"cpu": "x"}) == 1
        assert store.machine({"cpu": "y"}) == 2
    with Store(path) as store:
        assert store.fact("plan") == {"a": [1, 2]}
        assert store.fact("other", 7) == 7
        assert store.machines() == {1: {"cpu": "x"}, 2: {"cpu": "y"}}
        assert store.facts() == {"plan": {"a": [1, 2]}}


def test_two_runs_cannot_write_one_store(path: Path) -> None:
    with Store(path, write=True, make=True) as store:
        store.add([ROW])
        with pytest.raises(ResultsError, match="another run is writing"):
            Store(path, write=True)
        with Store(path) as reader:  # reading is free
            assert reader.rows() == [ROW]
    with Store(path, write=True) as again:
        assert again.rows() == [ROW]


def test_a_reader_cannot_write(path: Path) -> None:
    with Store(path, write=True, make=True):
        pass
    with Store(path) as store, pytest.raises(sqlite3.OperationalError, match="readonly"):
        store.add([ROW])


def test_the_file_alone_holds_everything_once_it_is_closed(path: Path, tmp_path: Path) -> None:
    with Store(path, write=True, make=True) as store:
        store.add([ROW])
    copied = tmp_path / "copy.bay.sqlite"
    copied.write_bytes(path.read_bytes())
    with Store(copied) as store:
        assert store.rows() == [ROW]


def test_a_store_of_another_version_is_refused(path: Path) -> None:
    with Store(path, write=True, make=True):
        pass
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    with pytest.raises(ResultsError, match=f"has form {SCHEMA + 1}, this version of Baywindow reads form {SCHEMA}"):
        Store(path)


@pytest.mark.parametrize("content", [b"no database at all, but text that is long enough to be one" * 20, b""])
def test_what_is_no_store_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="no store of results"):
        Store(path)


def test_a_missing_store_is_refused(path: Path) -> None:
    with pytest.raises(ResultsError, match="no results at"):
        Store(path, write=True)
