"""One search of a LanceDB table, crossing to its event loop once.

The library's own synchronous search is its asynchronous one, asked in five steps; each wakes the loop's thread and waits for it, and one
reads the table's schema anew. Together they were a third of a search of 100,000 rows. Its wrapper for rows taken by id asks in one step,
and holds any asynchronous query, so ours go through it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def by_words(table: Any, query: str, column: str, k: int, condition: str | None) -> pa.Table:
    """``_rowid`` and ``_score`` (BM25) of the best ``k`` rows that meet a condition, best first."""
    from lancedb.query import MatchQuery

    asked = table._table.query().nearest_to_text(MatchQuery(query, column)).select(["_score"])
    return _found(asked, k, condition)


def by_vector(table: Any, query: NDArray[np.float32], column: str, k: int, condition: str | None, distance: str, nprobes: int) -> pa.Table:
    """``_rowid`` and ``_distance`` of the nearest ``k`` rows that meet a condition, nearest first."""
    asked = table._table.query().nearest_to(query).column(column).distance_type(distance).nprobes(nprobes).select(["_distance"])
    return _found(asked, k, condition)


def _found(asked: Any, k: int, condition: str | None) -> pa.Table:
    from lancedb.query import BaseQueryBuilder

    asked = asked if condition is None else asked.where(condition)
    found: pa.Table = BaseQueryBuilder(asked.with_row_id().limit(k)).to_arrow()
    return found
