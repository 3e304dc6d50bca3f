"""Where the rows of chunks stand: LanceDB finds a row by its row id at once, by our own id only through a filter and its plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from baywindow.documents.index.rows import FILE_BITS


class Places:
    """Ids and row ids of one version of the table, 16 bytes a row in memory."""

    def __init__(self, table: Any) -> None:
        self._table = table
        rows = table.search().with_row_id(True).select(["id"]).to_arrow()
        row_ids = rows["_rowid"].to_numpy()
        order = np.argsort(row_ids)  # in the order they were written this is the order of the ids too, but for updated files
        self._rows: NDArray[np.uint64] = row_ids[order]
        self._ids: NDArray[np.int64] = rows["id"].to_numpy()[order]
        self._by_id = np.argsort(self._ids)

    @property
    def all_ids(self) -> NDArray[np.int64]:
        return self._ids

    def strays(self, numbers: NDArray[np.int64]) -> int:
        """How many rows belong to none of these files."""
        return int(len(self._ids) - np.isin(self._ids >> FILE_BITS, numbers).sum())

    def ids(self, row_ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Ids of rows that a search of the same version found."""
        return self._ids[np.searchsorted(self._rows, row_ids)]

    def fetched(self, ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """The rows of these ids, in any order; ids that are not there are left out."""
        asked = np.asarray(ids, dtype=np.int64)
        at = np.searchsorted(self._ids, asked, sorter=self._by_id)
        places = self._by_id[at[at < len(self._ids)]]
        there = places[self._ids[places] == asked[at < len(self._ids)]]
        found: pa.Table = self._table.take_row_ids(self._rows[there].tolist()).select(list(columns)).to_arrow()
        return found
