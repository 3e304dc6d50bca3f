"""Where the rows of chunks stand: LanceDB finds a row by its row id at once, by our own id only through a filter and its plan.

Each column that is read of a few scattered rows costs some 0.4 ms, however short its values. So the short columns of a passage (offsets,
line, page, label) are kept beside the ids, some 35 bytes a row, and only texts are read for a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from baywindow.documents.index.rows import FILE_BITS

MOST_KEPT = 1_000_000  # rows: of a larger table only the ids are kept


class Places:
    """Ids and row ids of one version of the table, 16 bytes a row in memory, and the columns ``keep``."""

    def __init__(self, table: Any, keep: Sequence[str] = ()) -> None:
        self._table = table
        kept = list(keep) if table.count_rows() <= MOST_KEPT else []
        rows = table.search().with_row_id(True).select(["id", *kept]).to_arrow()
        row_ids = rows["_rowid"].to_numpy()
        order = np.argsort(row_ids)  # in the order they were written this is the order of the ids too, but for updated files
        self._rows: NDArray[np.uint64] = row_ids[order]
        self._ids: NDArray[np.int64] = rows["id"].to_numpy()[order]
        self._by_id = np.argsort(self._ids)
        self._kept: pa.Table = rows.select(["id", *kept]).take(order)

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
        wanted = np.asarray(ids, dtype=np.int64)
        at = np.searchsorted(self._ids, wanted, sorter=self._by_id)
        places = self._by_id[at[at < len(self._ids)]]
        there = places[self._ids[places] == wanted[at < len(self._ids)]]
        read = [name for name in columns if name not in self._kept.column_names]
        if not read:
            return self._kept.take(there).select(list(columns))
        rows = self._table.take_row_ids(self._rows[there].tolist()).with_row_id().select(read).to_arrow()
        found = self._kept.take(np.searchsorted(self._rows, rows["_rowid"].to_numpy()))  # they come in any order
        for name in read:
            found = found.append_column(name, rows[name])
        return found.select(list(columns))
