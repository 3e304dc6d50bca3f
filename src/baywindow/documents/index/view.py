"""One consistent look at an index: a version of its tables, and the files of it that the question is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from baywindow.documents.base import Passage
from baywindow.documents.index import asked
from baywindow.documents.index.nearest import FLAT_LIMIT, Approximate, Flat, Near, load_flat
from baywindow.documents.index.places import Places
from baywindow.documents.index.plan import is_below
from baywindow.documents.index.rows import FILE_BITS, FOUND, About, FileRecord, ids_within
from baywindow.documents.index.store import Store
from baywindow.documents.walk import shown
from baywindow.errors import SourceError

FILES_AT_ONCE = 64  # read together when everything is read in order
LEFTOVERS = 64  # rows of unfinished or deleted files that a search may meet, until the next writer or tidying removes them


class View:
    """Searches that see only whole files below ``roots`` (absolute paths; None: all). Not changed by later writes."""

    def __init__(self, store: Store, roots: Sequence[str] | None) -> None:
        self._store = store
        self.about: About = store.about()
        records = store.records()
        self.everything = roots is None or all(any(is_below(path, root) for root in roots) for path in records)
        chosen = [r for path, r in records.items() if roots is None or any(is_below(path, root) for root in roots)]
        self.records: dict[int, FileRecord] = {r.number: r for r in sorted(chosen, key=lambda r: r.number)}
        self.source_of = {number: shown_path(r.path) for number, r in self.records.items()}
        self._number_of = {source: number for number, source in self.source_of.items()}
        self._number_of |= {r.path: number for number, r in self.records.items()}
        self._ids: dict[tuple[str, int, int], int] = {}

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        return np.fromiter(self.records, dtype=np.int64, count=len(self.records))

    @property
    def characters(self) -> int:
        return sum(r.characters for r in self.records.values())

    @property
    def chunks(self) -> int:
        return sum(r.chunks for r in self.records.values())

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{self.source_of[n]}: {note}" for n, r in self.records.items() for note in r.notes)

    # Searching

    def by_words(self, query: str, k: int) -> Near:
        """Chunk ids by BM25, best first."""
        with self._store.translated():
            rows = asked.by_words(self._store.table("chunks"), query, "text", k + self._leftovers, self._condition)
            ids = self._places.ids(rows["_rowid"].to_numpy())
        return self._finished(zip(ids.tolist(), rows["_score"].to_pylist(), strict=True), k)

    def by_meaning(self, query: NDArray[np.float32], k: int) -> Near:
        """Chunk ids by stored vectors, best first; nothing where none are stored."""
        if self._searcher is None:
            return []
        with self._store.translated():
            return self._finished(self._searcher.search(query, k), k)

    def _finished(self, hits: Iterable[tuple[int, float]], k: int) -> Near:
        return [(i, score) for i, score in hits if i >> FILE_BITS in self.records][:k]

    def fetched(self, hits: Near) -> list[Passage]:
        """Passages of chunk ids, in their order; ids that this version does not have are left out."""
        with self._store.translated():
            rows = self._places.fetched([i for i, _ in hits], FOUND)
        ids, scores = rows["id"].to_pylist(), dict(hits)
        found = dict(zip(ids, self._passages(rows, [scores[i] for i in ids]), strict=True))
        return [found[i] for i, _ in hits if i in found]

    def stored_vectors(self, passages: Sequence[Passage]) -> dict[int, NDArray[np.float32]]:
        """Stored vectors by the passage's place in the list; those without one are left out."""
        table = self._store.vectors()
        ids = {self._id_of(p): at for at, p in enumerate(passages)}
        if table is None or not ids:
            return {}
        opened = self.__dict__.get("_searcher")  # of a question that ranks given passages only, nothing is opened
        if isinstance(opened, Flat):
            flat: Flat = opened
            places = np.searchsorted(flat.ids, list(ids))
            return {
                at: flat.vectors[place]
                for place, (i, at) in zip(places, ids.items(), strict=True)
                if place < len(flat.ids) and flat.ids[place] == i
            }
        with self._store.translated():
            where = opened.places if isinstance(opened, Approximate) else Places(table)
            rows = where.fetched(list(ids), ["id", "vector"])
        return {ids[i]: np.asarray(v, np.float32) for i, v in zip(rows["id"].to_pylist(), rows["vector"].to_pylist(), strict=True)}

    @cached_property
    def embedded(self) -> int:
        """How many of the chunks have a vector."""
        if self._searcher is None:
            return 0
        ids = self._searcher.places.all_ids if isinstance(self._searcher, Approximate) else self._searcher.ids
        return int(np.isin(ids >> FILE_BITS, self.numbers).sum())

    # Reading

    def passages(self) -> Iterator[Passage]:
        """Everything by source and offset."""
        order = sorted(self.records, key=lambda n: self.source_of[n])
        for at in range(0, len(order), FILES_AT_ONCE):
            group = order[at : at + FILES_AT_ONCE]
            rows = self._rows(f"{ids_within(group)} AND path IS NULL", FOUND)
            per_file: dict[int, list[Passage]] = {number: [] for number in group}
            for row_id, passage in zip(rows["id"].to_pylist(), self._passages(rows, [0.0] * len(rows)), strict=True):
                per_file[row_id >> FILE_BITS].append(passage)
            for number in group:
                yield from per_file[number]

    def excerpt(self, source: str, start: int, end: int) -> str:
        """Put together from chunks and the white space between them; SourceError for an unknown source."""
        if (number := self._number_of.get(source)) is None:
            raise SourceError(f"{source} is not in the index", hint="`bay index --list` shows what is")
        record = self.records[number]
        start, end = max(0, start), min(end, record.characters)
        rows = self._rows(
            f"{ids_within([number])} AND path IS NULL AND end_at > {start} AND lead_at < {end}", ["id", "text", "lead", "lead_at"]
        )
        at = int(rows["lead_at"][0].as_py()) if len(rows) else record.characters - len(record.tail)
        text = "".join(lead + text for lead, text in zip(rows["lead"].to_pylist(), rows["text"].to_pylist(), strict=True))
        text += record.tail if at + len(text) == record.characters - len(record.tail) else ""
        return text[start - at : max(start, end) - at]

    def _rows(self, condition: str, columns: list[str]) -> pa.Table:
        with self._store.translated():
            found: pa.Table = self._store.table("chunks").search().where(condition).select(columns).to_arrow()
        return found.sort_by("id")

    def _passages(self, rows: pa.Table, scores: Sequence[float]) -> list[Passage]:
        """Rows of finished files as passages, in order; remembers their ids."""
        found = []
        for row, score in zip(rows.select(FOUND).to_pylist(), scores, strict=True):
            if (source := self.source_of.get(row["id"] >> FILE_BITS)) is None:
                continue
            passage = Passage(
                text=row["text"],
                source=source,
                start=row["start_at"],
                end=row["end_at"],
                line=row["line"],
                page=row["page"],
                label=row["label"],
                score=float(score),
            )
            self._ids[passage.key] = row["id"]
            found.append(passage)
        return found

    def _id_of(self, passage: Passage) -> int:
        """The chunk's id; -1 for a passage that is no chunk (a part of one, or of another corpus)."""
        return self._ids.get(passage.key, -1)

    @cached_property
    def _condition(self) -> str | None:
        return None if self.everything else ids_within(self.records)

    @cached_property
    def _places(self) -> Places:
        return Places(self._store.table("chunks"), [name for name in FOUND if name not in ("id", "text")])

    @cached_property
    def _leftovers(self) -> int:
        return self._strays(self._places)

    def _strays(self, places: Places) -> int:
        """How many rows a search may give that no finished file has, and must ask for besides: a condition leaves them out by itself."""
        return 0 if self._condition is not None else min(LEFTOVERS, places.strays(self.numbers))

    @cached_property
    def _searcher(self) -> Flat | Approximate | None:
        table: Any = self._store.vectors()
        if table is None:
            return None
        with self._store.translated():
            if self.about.measured_vectors and self.chunks > FLAT_LIMIT:
                places = Places(table)
                return Approximate(table, places, self.about.nprobes, self._condition, self._strays(places))
            return load_flat(table, self.numbers, self._condition)


def shown_path(path: str) -> str:
    """As the person would write it."""
    from pathlib import Path

    return shown(Path(path))
