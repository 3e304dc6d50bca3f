"""Lists in memory: they lack only what came since, and never show what was taken out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa

from baywindow.memory.records import Scope
from baywindow.memory.store import Store, facts, held, words
from baywindow.memory.store.held import Held
from baywindow.memory.store.tables import items

ASKED = sa.select(items.c.n, items.c.words).where(items.c.shelf == 1)
WORDS = "turn_retrieval(by='words')"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each query gave."""
    found: list[int] = []
    inner = held.Look._read

    def counted(look, asked):
        rows = inner(look, asked)
        found.append(len(rows))
        return rows

    monkeypatch.setattr(held.Look, "_read", counted)
    return found


def test_a_list_is_read_once_and_then_only_its_end(make_memory, read) -> None:
    memory = make_memory(WORDS)
    memory.add([f"the cat sat on mat {n}" for n in range(20)])
    assert len(memory.search("cat", k=50)) == 20
    assert read == [20, 20]  # items, and those with the word
    assert len(memory.search("cat", k=50)) == 20
    assert read == [20, 20]
    memory.add("a second cat")
    assert len(memory.search("cat", k=50)) == 21
    assert read == [20, 20, 1, 1]


def test_what_was_forgotten_is_in_no_list(make_memory, read) -> None:
    memory = make_memory(WORDS)
    memory.add(["the cat sleeps", "the dog barks", "a cat and a dog"])
    [first, second] = memory.search("cat")
    memory.forget(first.id)
    assert [one.id for one in memory.search("cat")] == [second.id]
    assert read == [3, 2, 2, 1]


def test_another_store_of_the_same_folder_sees_what_was_added_and_forgotten(make_memory) -> None:
    one, other = make_memory(WORDS), make_memory(WORDS)
    one.add("the cat sleeps")
    assert len(other.search("cat")) == 1
    one.add("another cat")
    assert len(other.search("cat")) == 2
    one.forget(other.search("another")[0].id)
    assert [r.text for r in other.search("cat")] == ["user: the cat sleeps"]


def test_a_transaction_from_before_a_forgetting_reads_for_itself() -> None:
    lists = Held()
    assert lists.get("a", taken_out=2) is None
    lists.keep("a", 5, 2, np.ones((3, 1), dtype=np.int64))
    assert lists.get("a", 1) is None
    lists.keep("a", 4, 1, np.ones((9, 1), dtype=np.int64))  # what it saw is not for others
    assert lists.get("a", 2)[1].shape == (3, 1)
    assert lists.get("a", 3) is None  # and now it is gone
    assert lists.get("a", 2) is None


def test_the_least_recently_used_list_goes_first() -> None:
    lists = Held(most_numbers=10)
    for name in "ab":
        lists.keep(name, 1, 0, np.ones((4, 1), dtype=np.int64))
    assert lists.get("a", 0) is not None
    lists.keep("c", 1, 0, np.ones((4, 1), dtype=np.int64))
    assert [lists.get(name, 0) is not None for name in "abc"] == [True, False, True]
    lists.keep("d", 1, 0, np.ones((11, 1), dtype=np.int64))
    assert lists.get("d", 0) is None
    assert lists.get("a", 0) is not None


def test_an_empty_list_grows_too(make_memory) -> None:
    memory = make_memory(WORDS)
    memory.add("the cat sleeps")
    assert memory.search("dog") == []
    memory.add("the dog barks")
    assert len(memory.search("dog")) == 1


def test_what_follows_its_scope_counts_as_taken_out(make_memory) -> None:
    """A second session that says the same makes a memory one of several sessions: no question about one session sees it any more."""
    memory = make_memory(WORDS)
    memory.add("the cat sleeps", Scope(session="one"))
    [turn] = memory.list(Scope(session="one"))
    store = Store(memory.where)
    counts = []
    for session in ("one", "two"):
        with store.database.writing() as connection:
            words.put(connection, [replace(turn, scope=Scope(agent="", session=session))])
            counts.append(facts.counts(connection)[1])
    store.close()
    assert counts == [0, 1]
    assert len(memory.search("cat", Scope(session="one"))) == 0


def test_a_look_gives_rows_in_the_order_of_their_numbers(make_memory) -> None:
    memory = make_memory(WORDS)
    memory.add(["three words here", "one", "two words"])
    store = Store(memory.where)
    with store.database.reading() as connection:
        assert Held().look(connection).rows("all", lambda: ASKED).tolist() == [[1, 3], [2, 2], [3, 3]]  # "user" is a word, "here" is not
    store.close()
