"""One step to LanceDB finds what its own synchronous searches find, and what is kept in memory is what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lancedb.query import MatchQuery

from baywindow.documents.index import Index, asked, places
from baywindow.documents.index.nearest import DISTANCE, Flat, by_column
from baywindow.documents.index.rows import FOUND
from baywindow.documents.index.view import View

QUESTIONS = ["rose", "number 7 tree", "rose number 3 stands", "nothing of the kind", "tree 5 5 5"]


@pytest.fixture
def index(tmp_path: Path, embedder) -> Index:
    """Forty files of one chunk and one of several, with lines and headings."""
    folder = tmp_path / "d"
    folder.mkdir()
    for n in range(40):
        (folder / f"{n}.txt").write_text(f"rose number {n} stands by tree {n % 7}")
    (folder / "long.md").write_text("\n\n".join(f"# Part {n}\n\nrose {n} and tree " + "of many words " * 30 for n in range(6)))
    made = Index(embedder=embedder, chunk_tokens=64)
    made.update([folder])
    made.embed()
    return made


@pytest.mark.parametrize("condition", [None, "id % 2 = 0"])
def test_searches_in_one_step_are_those_of_lancedb(index: Index, embedder, condition: str | None) -> None:
    chunks, vectors = index._store.table("chunks"), index._store.vectors()
    for question in QUESTIONS:
        by_words = chunks.search(MatchQuery(question, "text")).with_row_id(True).select(["_score"]).limit(9)
        vector = embedder.embed([question])[0]
        by_vector = vectors.search(vector).distance_type(DISTANCE).nprobes(2).with_row_id(True).select(["_distance"]).limit(9)
        if condition is not None:
            by_words, by_vector = by_words.where(condition, prefilter=True), by_vector.where(condition, prefilter=True)
        # Equal scores may come in either order: rows are compared by score, then number.
        for score, expected, found in (
            ("_score", by_words.to_arrow(), asked.by_words(chunks, question, "text", 9, condition)),
            ("_distance", by_vector.to_arrow(), asked.by_vector(vectors, vector, "vector", 9, condition, DISTANCE, 2)),
        ):
            assert found[score].to_pylist() == expected[score].to_pylist()
            certain = np.array(expected[score]) != (expected[score].to_pylist() or [0])[-1]
            assert set(np.array(found["_rowid"])[certain]) == set(np.array(expected["_rowid"])[certain])


def test_both_halves_at_once_are_the_two_one_after_the_other(index: Index) -> None:
    view = index._opened()
    for question in QUESTIONS:
        words, meaning = index.hits(question, 8)
        assert words == view.by_words(question, 8)
        assert meaning == view.by_meaning(index.embed_query(question), 8)
        assert len(meaning) == 8


def test_what_is_kept_in_memory_is_what_is_stored(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is too large keeps ids alone: then everything else is read."""
    short, read = View(index._store, None), View(index._store, None)
    rows = short._places.fetched(short._places.all_ids.tolist(), FOUND)
    ids = [i for i, text in zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True) if text is not None]
    hits = [(i, float(n)) for n, i in enumerate(reversed(ids))]
    monkeypatch.setattr(places, "MOST_KEPT", 3)
    assert (short._places._kept.num_columns, read._places._kept.num_columns) == (6, 1)
    found = short.fetched(hits)
    assert found == read.fetched(hits)
    assert [p.score for p in found] == [score for _, score in hits]
    assert len(found) == len(hits) > 45
    assert {p.text for p in found} == {p.text for p in index.passages()}
    assert len({p.line for p in found}) > 3
    columns = ["line", "id"]  # none of them has to be read
    assert short._places.fetched([hits[0][0], 1], columns).to_pylist() == [{"line": found[0].line, "id": hits[0][0]}]


def test_vectors_by_column_are_the_same_rows_in_their_order() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((600, 8)).astype(np.float32)  # more than are turned at once
    order = rng.permutation(600)[:570]
    found = by_column(rows, order)
    assert found.flags.f_contiguous
    assert np.array_equal(found, rows[order])
    assert by_column(rows[:0], order[:0]).shape == (0, 8)
    nearest = Flat(np.arange(570), found).search(rows[order[5]] / np.float32(np.linalg.norm(rows[order[5]])), 1)
    assert nearest[0][0] == int(np.argmax(rows[order] @ rows[order[5]]))
