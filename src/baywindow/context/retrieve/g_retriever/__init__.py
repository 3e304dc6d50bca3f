"""G-Retriever: of a graph, the small connected part that has to do with the question.

Paper: He 2024, G-Retriever: Retrieval-Augmented Generation for Textual Graph Understanding and Question Answering, arXiv 2402.07630;
reference code XiaoxinHe/G-Retriever was read.

Idea: nodes and edges whose text is like the question get prizes, every edge has a cost; the prize-collecting Steiner tree is the
connected part with the best balance. What stands at its nodes and edges is the context.

Departs: see the card.

Shapes and units: the graph is two CSV files among the sources, ``node_id,node_attr`` and ``src,edge_attr,dst`` with a header line;
every row that is given is an exact span of its file. Where the sources hold neither file, the graph is made of their text, as
`graphreader` takes it apart: elements and facts of chunks of ``chunk_tokens``. A passage then comes back as its facts.
Cost: one embedding a node and an edge (stored nowhere), one Steiner tree, near-linear in the edges. A graph made of text costs one call
a chunk, of up to ``facts_tokens``, and is kept in the user's cache.
Errors: MissingExtraError without pcst-fast2; SourceError for a file that was asked for and is not there, or whose rows do not parse.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baywindow.context.base import Retriever
from baywindow.context.capped import check_options
from baywindow.context.condensed import written
from baywindow.context.retrieve.g_retriever.tables import EDGE_COLUMNS, NODE_COLUMNS, Row, sources_called, table
from baywindow.context.retrieve.g_retriever.told import Graph, built
from baywindow.context.retrieve.g_retriever.tree import edge_prizes, node_prizes, solver, steiner
from baywindow.context.run import Run
from baywindow.context.stages import reading_order
from baywindow.documents.base import Corpus, Passage
from baywindow.errors import ConfigError
from baywindow.registry import technique

NODES, EDGES = "nodes.csv", "edges.csv"
PLAIN_PASSAGES = 5  # where no facts could be had


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
        "text without a graph gets one of GraphReader's facts; the paper's graphs were given",
    ),
)
class GRetriever(Retriever):
    nodes: str = NODES  # a source, or how its path ends
    edges: str = EDGES
    top_nodes: int = 3  # the paper's k for nodes
    top_edges: int = 3  # and for edges (5 for WebQSP)
    edge_cost: float = 0.5  # the paper's C_e
    chunk_tokens: int = 2000
    facts_tokens: int = 1024
    max_calls: int = 256

    def __post_init__(self) -> None:
        for name in ("top_nodes", "top_edges"):
            if getattr(self, name) < 0:
                raise ConfigError.bad_value(name, getattr(self, name), "0 or more")
        if self.top_nodes + self.top_edges == 0:
            raise ConfigError.bad_value("top_nodes", self.top_nodes, "at least 1 if top_edges is 0")
        check_options(self, chunk_tokens=64, facts_tokens=8, max_calls=1)
        if self.edge_cost <= 0:
            raise ConfigError.bad_value("edge_cost", self.edge_cost, "above 0")

    def retrieve(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        if (self.nodes, self.edges) == (NODES, EDGES) and not any(sources_called(run.corpus, name) for name in (NODES, EDGES)):
            return self._of_text(run, query, passages)
        nodes = table(run.corpus, self.nodes, NODE_COLUMNS, passages)
        edges = table(run.corpus, self.edges, EDGE_COLUMNS, passages)
        number = {row.cells[0]: i for i, row in enumerate(nodes)}
        edges = [row for row in edges if row.cells[0] in number and row.cells[2] in number]
        if not nodes:
            return []
        near_nodes, near_edges = _likeness(run.corpus, query, nodes), _likeness(run.corpus, query, edges)
        kept_nodes, kept_edges = self._part(run, [(number[r.cells[0]], number[r.cells[2]]) for r in edges], near_nodes, near_edges)
        found = [replace(nodes[i].passage, score=float(near_nodes[i])) for i in kept_nodes]
        return [*found, *(replace(edges[i].passage, score=float(near_edges[i])) for i in kept_edges)]

    def _of_text(self, run: Run, query: str, passages: list[Passage] | None) -> list[Passage]:
        """The facts of the tree by their passages, the passage with the likest fact first."""
        solver()  # before calls are paid for: it may be missing
        source = None if passages is None else reading_order(passages)
        graph = built(run, source, self.chunk_tokens, self.facts_tokens, self.max_calls)
        if not graph.facts:
            run.note("g_retriever had no facts to make a graph of; the passages most like the question stand in")
            return _most_like(run.corpus, query, passages)
        question = run.corpus.embed_query(query)
        near_facts = run.corpus.embed_texts([fact.text for fact in graph.facts]) @ question
        near_nodes = run.corpus.embed_texts(graph.names) @ question
        kept_nodes, kept_edges = self._part(run, graph.ends, near_nodes, near_facts[graph.of])
        kept = {graph.of[i] for i in kept_edges} | _alone(graph, kept_nodes, kept_edges, near_facts)
        by_origin: dict[tuple[str, int, int], list[int]] = {}
        for i in sorted(kept, key=lambda i: -near_facts[i]):
            by_origin.setdefault(graph.facts[i].origin.key, []).append(i)
        found: list[Passage] = []
        for some in by_origin.values():
            text = " ".join(graph.facts[i].text for i in sorted(some))
            found.append(replace(written(graph.facts[some[0]].origin, text), score=float(near_facts[some[0]])))
        return found

    def _part(
        self, run: Run, ends: list[tuple[int, int]], near_nodes: NDArray[np.float32], near_edges: NDArray[np.float32]
    ) -> tuple[list[int], list[int]]:
        prizes = node_prizes(near_nodes, self.top_nodes), edge_prizes(near_edges, self.top_edges)
        nodes, edges = steiner(ends, *prizes, self.edge_cost)
        run.note(f"g_retriever kept {len(nodes)} of {len(near_nodes)} nodes and {len(edges)} of {len(near_edges)} edges")
        return nodes, edges


def _alone(graph: Graph, nodes: list[int], edges: list[int], near_facts: NDArray[np.float32]) -> set[int]:
    """For a node that came without an edge, its fact that is most like the question: a name alone answers nothing."""
    joined = {end for i in edges for end in graph.ends[i]}
    of_node = {node: [i for i, fact in enumerate(graph.facts) if node in fact.nodes] for node in nodes if node not in joined}
    return {max(some, key=lambda i: near_facts[i]) for some in of_node.values()}


def _most_like(corpus: Corpus, query: str, passages: list[Passage] | None) -> list[Passage]:
    if passages is None:
        return corpus.vectors(query, PLAIN_PASSAGES)
    return passages[:PLAIN_PASSAGES]


def _likeness(corpus: Corpus, query: str, rows: list[Row]) -> NDArray[np.float32]:
    """Cosines of the rows' texts with the question, shape (row,)."""
    if not rows:
        return np.zeros(0, dtype=np.float32)
    found: NDArray[np.float32] = corpus.embed_texts([row.cells[1] for row in rows]) @ corpus.embed_query(query)
    return found
