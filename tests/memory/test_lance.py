"""Vectors of a shelf in memory: they grow without being moved, and rank as one exact product does."""

from __future__ import annotations

import numpy as np
import pytest

from baywindow.documents.index.nearest import Flat, by_column
from baywindow.memory.records import Scope
from baywindow.memory.store.lance import SMALLEST_BLOCK, Growing


def drawn(count: int, seed: int, *, clusters: int = 0) -> np.ndarray:
    """Unit vectors, spread out or close to a few centres."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((count, 16))
    if clusters:
        found = rng.standard_normal((clusters, 16))[rng.integers(0, clusters, count)] + 0.01 * found
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("clusters", [0, 3])
def test_whatever_the_blocks_scores_are_those_of_all_rows(clusters: int) -> None:
    rows = drawn(1000, 0, clusters=clusters)
    grown = Growing.of(Flat(np.arange(1, 301), by_column(rows[:300], np.arange(300))))
    first = grown.blocks[0]
    at = 300
    for size in (1, 30, 0, 69, 1, 250, 1, 348):  # some fit the last block, some need one of their own
        grown.append(list(range(at + 1, at + size + 1)), rows[at : at + size])
        at += size
    assert at == 1000
    assert np.shares_memory(grown.blocks[0], first)
    assert 2 < len(grown.blocks) < 8
    assert grown.numbers.tolist() == list(range(1, 1001))
    for vector in drawn(5, 1):
        np.testing.assert_allclose(grown.scores(vector), rows.astype(float) @ vector, atol=1e-6)


def test_a_shelf_begins_empty() -> None:
    grown = Growing.of(Flat(np.zeros(0, np.int64), np.zeros((0, 0), np.float32)))
    grown.append([7], drawn(1, 0))
    assert [block.shape for block in grown.blocks] == [(SMALLEST_BLOCK, 16)]
    assert grown.scores(drawn(1, 0)[0]) == pytest.approx([1.0])
    grown.gone.add(7)
    assert grown.known().tolist() == []


def test_a_narrow_search_is_exact_too(make_memory, embedder) -> None:
    """Oracle: every text compared with the question, those of other sessions left out."""
    memory = make_memory("turn_retrieval(by='meaning')")
    texts = [f"word{n % 17} and word{n % 5} of {n}" for n in range(120)]
    for part in range(3):
        memory.add(texts[part::3], Scope(session=f"s{part}"))
    for query in ("word3 and word4", "of 77", "word16"):
        for session, own in ((None, texts), ("s1", texts[1::3])):
            likeness = embedder.embed([f"user: {text}" for text in own]) @ embedder.embed([query])[0]
            found = memory.search(query, Scope(session=session), 9)
            np.testing.assert_allclose([one.score for one in found], np.sort(likeness)[::-1][:9], atol=1e-6)
            assert {one.text for one in found} <= {f"user: {text}" for text in own}
