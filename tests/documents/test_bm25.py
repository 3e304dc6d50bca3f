"""The few best of many are those of a full sort, ties and all."""

from __future__ import annotations

import numpy as np
import pytest

from baywindow.documents.bm25 import best_first


@pytest.mark.parametrize("k", [0, 1, 3, 24, 25, 26, 99, 100, 200])
@pytest.mark.parametrize("values", [2, 10, 1_000_000])
def test_the_best_are_those_of_a_full_sort(k: int, values: int) -> None:
    """Oracle: Python's own sort. Few values make many ties, of which the first come first."""
    scores = np.random.default_rng(k).integers(-values, values, 100).astype(np.float32)
    assert best_first(scores, k) == sorted(range(100), key=lambda at: -scores[at])[:k]
    assert best_first(scores[:0], k) == []
