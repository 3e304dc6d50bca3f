"""G-Retriever: of a graph, the small connected part that has to do with the question.

Paper: He 2024, G-Retriever: Retrieval-Augmented Generation for Textual Graph Understanding and Question Answering, arXiv 2402.07630;
reference code XiaoxinHe/G-Retriever was read.

Idea: nodes and edges whose text is like the question get prizes, every edge has a cost; the prize-collecting Steiner tree is the
connected part with the best balance. Its rows of the node table and of the edge table are the context.

Departs: see the card.

Shapes and units: the graph is two CSV files among the sources, ``node_id,node_attr`` and ``src,edge_attr,dst`` with a header line;
every row that is given is an exact span of its file.
Cost: one embedding a node and an edge (stored nowhere), one Steiner tree, near-linear in the edges; no model call.
Errors: MissingExtraError without pcst-fast2; SourceError for a source that is not there or whose rows do not parse.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baywindow.context.base import Retriever
from baywindow.context.run import Run
from baywindow.documents.base import Corpus, Passage
from baywindow.errors import ConfigError, MissingExtraError, SourceError
from baywindow.registry import technique

NODE_COLUMNS = ("node_id", "node_attr")
EDGE_COLUMNS = ("src", "edge_attr", "dst")


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells by the asked columns, and where it stands."""

    cells: tuple[str, ...]
    passage: Passage


@technique(
    summary="the connected part of a graph that has to do with the question (Steiner tree)",
    paper="2402.07630",
    year=2024,
    needs=("embedder", "text"),
    claim="Steiner-tree subgraphs are connected, far smaller than the graph, and answer better than as many top-k triples.",
    departures=(
        "no graph network and no soft prompt: they are trained for one model; the textualised graph is the authors' own plain variant",
        "every row is a passage of its own with its mark, nodes first; the authors give two tables cut to 512 tokens",
        "rows are single lines of CSV: a quoted cell with a line break is refused",
    ),
)
class GRetriever(Retriever):
    nodes: str = "nodes.csv"  # a source, or how its path ends
    edges: str = "edges.csv"
    top_nodes: int = 3  # the paper's k for nodes
    top_edges: int = 3  # and for edges (5 for WebQSP)
    edge_cost: float = 0.5  # the paper's C_e

    def __post_init__(self) -> None:
        for name in ("top_nodes", "top_edges"):
            if getattr(self, name) < 0:
                raise ConfigError.bad_value(name, getattr(self, name), "0 or more")
        if self.top_nodes + self.top_edges == 0:
            raise ConfigError.bad_value("top_nodes", self.top_nodes, "at least 1 if top_edges is 0")
        if self.edge_cost <= 0:
            raise ConfigError.bad_value("edge_cost", self.edge_cost, "above 0")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        nodes = self._rows(run.corpus, self.nodes, NODE_COLUMNS, passages)
        edges = self._rows(run.corpus, self.edges, EDGE_COLUMNS, passages)
        number = {row.cells[0]: i for i, row in enumerate(nodes)}
        edges = [row for row in edges if row.cells[0] in number and row.cells[2] in number]
        if not nodes:
            return []
        question = run.corpus.embed_query(query)
        near_nodes = _likeness(run.corpus, nodes, 1, question)
        near_edges = _likeness(run.corpus, edges, 1, question)
        ends = [(number[row.cells[0]], number[row.cells[2]]) for row in edges]
        prizes = node_prizes(near_nodes, self.top_nodes), edge_prizes(near_edges, self.top_edges)
        kept_nodes, kept_edges = steiner(ends, *prizes, self.edge_cost)
        found = [replace(nodes[i].passage, score=float(near_nodes[i])) for i in kept_nodes]
        found += [replace(edges[i].passage, score=float(near_edges[i])) for i in kept_edges]
        run.note(f"g_retriever kept {len(kept_nodes)} of {len(nodes)} nodes and {len(kept_edges)} of {len(edges)} edges")
        return found

    def _rows(self, corpus: Corpus, name: str, columns: Sequence[str], given: list[Passage] | None) -> list[Row]:
        """The rows of a table; of those, the ones that given passages hold in whole or part."""
        ends: dict[str, int] = {}
        for p in corpus.passages():
            if p.source == name or PurePath(p.source).match(name):
                ends[p.source] = max(p.end, ends.get(p.source, 0))
        if len(ends) != 1:
            raise SourceError(
                f"{len(ends)} sources are called {name!r}", hint="give nodes= and edges= the paths of the graph's two CSV files"
            )
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


def node_prizes(likeness: NDArray[np.float32], top: int) -> NDArray[np.float64]:
    """The most similar node gets ``top``, the next one less, and so on to 1; all others 0."""
    prizes = np.zeros(len(likeness))
    best = np.argsort(-likeness, kind="stable")[:top]
    prizes[best] = np.arange(top, top - len(best), -1)
    return prizes


def edge_prizes(likeness: NDArray[np.float32], top: int) -> NDArray[np.float64]:
    """Like nodes, but edges of the same similarity share a rank's prize, and each rank earns less than the one before."""
    prizes = np.zeros(len(likeness))
    last = np.inf
    for rank, value in enumerate(np.unique(likeness)[::-1][:top]):
        same = likeness == value
        worth = min((top - rank) / int(same.sum()), last)
        prizes[same] = worth
        last = worth * 0.99
    return prizes


def steiner(
    ends: Sequence[tuple[int, int]], node_worth: NDArray[np.float64], edge_worth: NDArray[np.float64], edge_cost: float
) -> tuple[list[int], list[int]]:
    """Numbers of the nodes and edges of the prize-collecting Steiner tree, sorted.

    An edge whose prize exceeds its cost becomes a node with the difference as its prize, reached at no cost from both ends.
    """
    count = len(node_worth)
    if not ends:
        return [int(np.argmax(node_worth))], []
    cost = min(edge_cost, float(edge_worth.max()) * 0.995) if edge_worth.max() > 0 else edge_cost
    pairs: list[tuple[int, int]] = []
    costs: list[float] = []
    of_pair: list[int] = []
    virtual: list[int] = []  # edge numbers, by node number less `count`
    for i, (a, b) in enumerate(ends):
        if edge_worth[i] > cost:
            between = count + len(virtual)
            virtual.append(i)
            pairs += [(a, between), (between, b)]
            costs += [0.0, 0.0]
            of_pair += [i, i]
        else:
            pairs.append((a, b))
            costs.append(cost - float(edge_worth[i]))
            of_pair.append(i)
    prizes = np.concatenate([node_worth, [float(edge_worth[i]) - cost for i in virtual]])
    vertices, chosen = _pcst()(np.array(pairs, dtype=np.int64), prizes, np.array(costs), -1, 1, "gw", 0)
    # An edge stands for itself if it was taken as an edge, or if its node was taken.
    kept = {of_pair[int(i)] for i in chosen if of_pair[int(i)] not in virtual} | {virtual[int(v) - count] for v in vertices if v >= count}
    nodes = {int(v) for v in vertices if v < count} | {end for i in kept for end in ends[i]}
    return sorted(nodes), sorted(kept)


@functools.cache
def _pcst() -> Any:
    """The solver, once it has solved a tree with a known answer: pcst_fast 1.0.10 returns other numbers beside numpy 2, without a word."""
    try:
        from pcst_fast import pcst_fast
    except ModuleNotFoundError:
        raise MissingExtraError.of("what finds Steiner trees (pcst-fast2)", "graph") from None
    vertices, _ = pcst_fast(np.array([[0, 1], [1, 2]]), np.array([3.0, 0.0, 2.0]), np.array([0.5, 0.5]), -1, 1, "gw", 0)
    if sorted(map(int, vertices)) != [0, 1, 2]:
        raise MissingExtraError(
            "this build of pcst_fast does not work with this numpy", hint='pip uninstall pcst_fast; pip install "pcst-fast2"'
        )
    return pcst_fast


def _likeness(corpus: Corpus, rows: Sequence[Row], column: int, question: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines of the rows' texts with the question, shape (row,)."""
    if not rows:
        return np.zeros(0, dtype=np.float32)
    found: NDArray[np.float32] = corpus.embeddings([replace(row.passage, text=row.cells[column]) for row in rows]) @ question
    return found
