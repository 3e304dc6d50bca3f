"""A graph given as two CSV files among the documents: ``nodes`` (node_id, node_attr) and ``edges`` (src, edge_attr, dst)."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from baywindow.documents.base import Corpus, Passage
from baywindow.errors import SourceError

NODE_COLUMNS = ("node_id", "node_attr")
EDGE_COLUMNS = ("src", "edge_attr", "dst")


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells by the asked columns, and where it stands."""

    cells: tuple[str, ...]
    passage: Passage


def sources_called(corpus: Corpus, name: str) -> dict[str, int]:
    """Where each source ends whose path is or ends with a name."""
    ends: dict[str, int] = {}
    for p in corpus.passages():
        if p.source == name or PurePath(p.source).match(name):
            ends[p.source] = max(p.end, ends.get(p.source, 0))
    return ends


def table(corpus: Corpus, name: str, columns: Sequence[str], given: list[Passage] | None) -> list[Row]:
    """The rows of a table; of those, the ones that given passages hold in whole or part. SourceError if it is not one readable file."""
    ends = sources_called(corpus, name)
    if len(ends) != 1:
        raise SourceError(f"{len(ends)} sources are called {name!r}", hint="give nodes= and edges= the paths of the graph's two CSV files")
    (source,) = ends
    rows = parsed(source, corpus.excerpt(source, 0, ends[source]), columns)
    if given is None:
        return rows
    spans = [(p.start, p.end) for p in given if p.source == source]
    return [row for row in rows if any(start < row.passage.end and row.passage.start < end for start, end in spans)]


def parsed(source: str, text: str, columns: Sequence[str]) -> list[Row]:
    """The rows below a header that names ``columns``, in any order."""
    rows: list[Row] = []
    places: list[int] = []
    for line, match in enumerate(re.finditer(r"(?m)^(.*?)\r?$", text), 1):
        if not match.group(1).strip():
            continue
        cells = next(csv.reader([match.group(1)]))
        if not places:
            if missing := [column for column in columns if column not in cells]:
                raise SourceError(f"{source} has no column {missing[0]!r}", hint=f"its first line must be {','.join(columns)}")
            places = [cells.index(column) for column in columns]
            continue
        if len(cells) <= max(places):
            raise SourceError(f"{source}:{line} has {len(cells)} columns", hint="one row is one line; quote cells that hold commas")
        passage = Passage(text=match.group(1), source=source, start=match.start(1), end=match.end(1), line=line)
        rows.append(Row(tuple(cells[place] for place in places), passage))
    return rows
