"""What happens when a writer is killed, two write at once, the disk fills up, or files are damaged. Real processes, real signals."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from baywindow.errors import MemoryBusyError, MemoryStoreError
from baywindow.memory.records import Record, Scope
from baywindow.memory.store import database

HERE = str(Path(__file__).parent)
# A system whose every turn makes two facts and replaces one, so that half an add would show.
WRITER = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, sys.argv[2])
    from conftest import WordEmbedder
    from pairs import Pairs
    from baywindow.memory.memory import Memory
    from baywindow.memory.records import Scope
    memory = Memory(sys.argv[1], Pairs(embeds=sys.argv[5] == "embeds"), embedder=WordEmbedder())
    print("ready", flush=True)
    for n in range(int(sys.argv[4])):
        memory.add([f"{sys.argv[3]} says {n}"], Scope("ann", session=sys.argv[3]))
        print(n, flush=True)
    memory.close()
    """
)


def start(folder: Path | str, name: str, times: int, *, before: str = "", how: str = "plain") -> subprocess.Popen[str]:
    args = [sys.executable, "-W", "error", "-c", before + WRITER, str(folder), HERE, name, str(times), how]
    return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def check_whole(memory, name: str, confirmed: int) -> int:
    """Turns, facts and search agree, and everything that was confirmed is there; how many adds there are."""
    turns = memory.list(Scope("ann", session=name), said=True)
    assert [t.text for t in turns] == [f"{name} says {n}" for n in range(len(turns))]
    assert len(turns) >= confirmed
    records = memory.list(Scope("ann", session=name), past=True)
    if not turns:
        assert records == []
        return 0
    assert all(isinstance(r, Record) for r in records)
    for kind in ("one", "two"):
        assert sorted(r.text for r in records if r.kind == kind) == sorted(f"{kind} of {t.text}" for t in turns)
        assert [r.current for r in records if r.kind == kind] == [True] * len(turns)
    last = [r for r in records if r.kind == "last"]
    assert [r.text for r in last if r.current] == [f"last is {turns[-1].text}"]
    assert len(last) == len(turns)
    found = memory.search(f"one of {name} says {len(turns) - 1}", Scope("ann", session=name), 50)
    assert {one.text for one in found} <= {r.text for r in records if r.current}
    assert f"one of {turns[-1].text}" in {one.text for one in found}
    return len(turns)


def test_a_journal_that_another_process_is_changing_is_waited_for(tmp_path: Path) -> None:
    """SQLite answers "database is locked" at once there, whatever its busy time is."""
    holder = sqlite3.connect(tmp_path / "m.sqlite", isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    comer = sqlite3.connect(tmp_path / "m.sqlite", isolation_level=None, timeout=0.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        comer.execute("PRAGMA journal_mode = WAL")
    release = threading.Timer(0.3, holder.execute, ["COMMIT"])
    release.start()
    database._to_wal(comer)
    release.join()
    assert comer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    comer.close()
    holder.close()


def test_two_writers_lose_nothing(tmp_path: Path, pairs_memory) -> None:
    writers = {name: start(tmp_path / "m", name, 8) for name in ("left", "right")}
    for process in writers.values():
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    memory = pairs_memory(tmp_path / "m")
    assert [check_whole(memory, name, 8) for name in writers] == [8, 8]
    assert len(memory.list(Scope("ann"), said=True)) == 16


def kill_once(folder: Path, name: str, wait_s: float, how: str) -> int:
    """Start a writer, kill it at some moment; how many adds it had confirmed."""
    process = start(folder, name, 500, how=how)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    return len(out.split())


def run_and_kill(tmp_path: Path, pairs_memory, kills: int, how: str) -> None:
    for at in range(kills):
        confirmed = kill_once(tmp_path / "m", f"w{at}", 0.9 * at / kills, how)
        memory = pairs_memory(tmp_path / "m")
        assert check_whole(memory, f"w{at}", confirmed) - confirmed in (0, 1)
        memory.close()
    memory = pairs_memory(tmp_path / "m")
    memory.add("after: all", Scope("ann", session="after"))
    assert memory.search("after", Scope("ann", session="after"))


def test_kill_9_during_add_leaves_the_old_or_the_new_state(tmp_path: Path, pairs_memory) -> None:
    run_and_kill(tmp_path, pairs_memory, kills=2, how="plain")


@pytest.mark.slow
def test_kill_9_at_many_moments(tmp_path: Path, pairs_memory) -> None:
    run_and_kill(tmp_path, pairs_memory, kills=25, how="embeds")


FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
"""


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, pairs_memory) -> None:
    first = pairs_memory(tmp_path / "m")
    first.add("w says 0", Scope("ann", session="w"))
    first.close()
    # A limit on file size is how a process meets "no room" without filling the machine's disk.
    process = start(tmp_path / "m", "w", 400, before=FULL_DISK)
    out, err = process.communicate(timeout=300)
    confirmed = len(out.split()) - 1
    assert process.returncode == 1
    assert confirmed < 400
    assert "MemoryStoreError: the disk is full" in err.strip().splitlines()[-1]
    memory = pairs_memory(tmp_path / "m")
    there = check_whole(memory, "w", confirmed)
    memory.add(f"w says {there}", Scope("ann", session="w"))
    assert check_whole(memory, "w", there + 1) == there + 1


def damage_vectors(folder: Path, how: str) -> None:
    files = sorted(p for p in (folder / "vectors.lance").rglob("*") if p.is_file())
    assert files
    for path in files:
        if how == "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif how == "noise":
            path.write_bytes(bytes(path.stat().st_size))
        elif how == "gone" and path.suffix == ".lance":
            path.unlink()


@pytest.mark.parametrize("how", ["cut", "noise", "gone"])
def test_damaged_vectors_are_made_again_from_what_is_stored(make_memory, tmp_path: Path, how: str) -> None:
    memory = make_memory("turn_retrieval(by='meaning')")
    memory.add(["the cat sleeps", "rain falls on the roof", "gold is heavy"])
    before = [one.text for one in memory.search("heavy gold")]
    memory.close()
    damage_vectors(tmp_path / "memory", how)
    later = make_memory("turn_retrieval(by='meaning')")
    assert [one.text for one in later.search("heavy gold")] == before
    assert any("made again" in note for note in later.add("one more").notes)
    assert make_memory("turn_retrieval(by='meaning')").search("heavy gold")[0].text == before[0]


def test_vectors_that_disagree_with_what_is_stored_are_mended(make_memory, tmp_path: Path) -> None:
    import lancedb

    memory = make_memory("turn_retrieval(by='meaning')")
    memory.add(["the cat sleeps", "rain falls", "gold is heavy"])
    memory.close()
    table = lancedb.connect(str(tmp_path / "memory" / "vectors.lance")).open_table("items")
    lost = table.search().limit(1).to_arrow().to_pylist()[0]
    table.delete(f"id = {lost['id']}")
    table.add([{"id": 999, "shelf": lost["shelf"], "vector": lost["vector"]}])
    later = make_memory("turn_retrieval(by='meaning')")
    assert len(later.search("anything at all")) == 3
    assert sorted(table.checkout_latest() or table.search().to_arrow()["id"].to_pylist()) == [1, 2, 3]


def test_words_that_disagree_with_what_is_stored_are_mended_on_open(make_memory, tmp_path: Path) -> None:
    import sqlite3

    memory = make_memory("turn_retrieval(by='words')")
    memory.add(["the cat sleeps", "rain falls"])
    memory.close()
    database = sqlite3.connect(tmp_path / "memory" / "memory.sqlite")
    database.execute("DELETE FROM items WHERE n = 1")
    database.execute("DELETE FROM postings")
    database.commit()
    database.close()
    later = make_memory("turn_retrieval(by='words')")
    assert [one.text for one in later.search("cat")] == ["user: the cat sleeps"]


def test_vectors_of_another_embedder_are_not_mixed(make_memory, tmp_path: Path, embedder) -> None:
    make_memory("turn_retrieval(by='meaning')").add(["the cat sleeps", "gold is heavy"])
    other = type(embedder)("other", dim=32)
    memory = make_memory("turn_retrieval(by='meaning')", embedder=other)
    assert memory.search("heavy gold")[0].text == "user: gold is heavy"
    assert "user: the cat sleeps" in other.texts
    memory.add("more of it")
    assert len(memory.search("gold")) == 3


def test_a_damaged_database_is_one_line(make_memory, tmp_path: Path) -> None:
    make_memory("turn_retrieval(by='words')").close()
    path = tmp_path / "memory" / "memory.sqlite"
    path.write_bytes(b"this is no database at all" * 200)
    for extra in ("-wal", "-shm"):
        Path(f"{path}{extra}").unlink(missing_ok=True)
    with pytest.raises(MemoryStoreError, match="its file is damaged"):
        make_memory()


def test_a_folder_that_cannot_be_made_is_one_line(make_memory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MemoryStoreError, match="cannot be made"):
        make_memory(where=tmp_path / "file" / "m")


def test_what_is_no_store_is_refused_without_showing_a_password(make_memory) -> None:
    with pytest.raises(MemoryStoreError, match=r"mysql://me:\*\*\*@host/db is no memory store"):
        make_memory(where="mysql://me:secret@host/db")


def test_a_writer_that_holds_the_home_too_long_is_named(make_memory, tmp_path: Path, monkeypatch) -> None:
    memory, other = make_memory(), make_memory()
    monkeypatch.setattr("baywindow.memory.store.database.WAIT_S", 0.05)
    with memory._store.lock(Scope("ann")), pytest.raises(MemoryBusyError, match="nothing is lost"):
        other.add("x", Scope("ann"))
    with memory._store.lock(Scope("ann")):
        other.add("x", Scope("bob"))


FORGOTTEN = "Xanthippe keeps nightingales"


def bytes_left(folder: Path, words: str) -> list[str]:
    """Files that still hold any of some words, in whatever case."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and any(word.lower().encode() in path.read_bytes().lower() for word in words.split()):
            found.append(path.name)
    return found


def test_forgotten_words_are_in_no_file_after_compact(pairs_memory, tmp_path: Path) -> None:
    memory = pairs_memory(tmp_path / "m")
    for n in range(30):
        memory.add(f"ordinary words number {n}", Scope("ann"))
    memory.add(FORGOTTEN, Scope("ann"))
    memory.search("nightingales", Scope("ann"))
    assert bytes_left(tmp_path / "m", FORGOTTEN)
    assert vector_count(tmp_path / "m") == 31 + 2 * 31 + 1
    memory.forget(query="nightingales", scope=Scope("ann"))
    assert memory.search("nightingales Xanthippe", Scope("ann"), 50)
    assert not [one for one in memory.search("nightingales", Scope("ann"), 50) if "nightingales" in one.text]
    memory.export(tmp_path / "export.jsonl", Scope("ann"))
    memory.compact()
    assert bytes_left(tmp_path, "Xanthippe nightingales") == []
    assert vector_count(tmp_path / "m") == 30 + 2 * 30 + 1  # the last before it counts again, and has its vector
    assert (tmp_path / "m" / "memory.sqlite-wal").stat().st_size == 0
    assert [t.text for t in memory.list(Scope("ann"), said=True)][-1] == "ordinary words number 29"


def vector_count(folder: Path) -> int:
    import lancedb

    table = lancedb.connect(str(folder / "vectors.lance")).open_table("items")
    return int(table.count_rows())
