"""`g_retriever`: prizes by hand, trees against every connected part of small graphs, rows as exact spans."""

from __future__ import annotations

import json
import re
import sys
from itertools import combinations

import numpy as np
import pytest

from baywindow.budget import Budget, Meter
from baywindow.context.condensed import Condensed, cited
from baywindow.context.facts import EXTRACT_SYSTEM
from baywindow.context.retrieve.g_retriever import GRetriever, tree
from baywindow.context.retrieve.g_retriever.tables import parsed
from baywindow.context.retrieve.g_retriever.told import Graph
from baywindow.context.retrieve.g_retriever.tree import edge_prizes, node_prizes, steiner
from baywindow.context.run import Run
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.errors import ConfigError, MissingExtraError, SourceError
from baywindow.models.base import Embedder

pytest.importorskip("pcst_fast", reason="needs pcst_fast")
NODES = 'node_id,node_attr\n0,Osric\n1,harbour master\n2,"Port of Arden, old"\n3,Ida\n4,painter\n5,apple tree\n'
EDGES = "src,edge_attr,dst\n0,works as,1\n0,lives near,2\n3,works as,4\n3,knows,0\n5,stands near,2\n"


SAID = {
    "Ada has a sister called Bo.": "Ada; Bo",
    "Bo works in the mill.": "Bo; the mill",
    "The mill stands in Oslo.": "Mill; Oslo",
    "Cy likes boats.": "Cy; boats",
    "It rains.": "rain",
}


class Words(Embedder):
    name, dim, max_tokens = "words", 128, 100

    def embed(self, texts, kind="passage"):
        found = np.full((len(texts), self.dim), 1e-4, dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in text.lower().replace("?", "").split():
                row[sum(map(ord, word)) % self.dim] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def corpus() -> InMemory:
    return InMemory([Document(NODES, "g/nodes.csv"), Document(EDGES, "g/edges.csv")], embedder=Words())


def test_prizes_worked_example() -> None:
    assert node_prizes(np.array([0.1, 0.9, 0.5, 0.2], dtype=np.float32), 2).tolist() == [0, 2, 1, 0]
    assert node_prizes(np.array([0.4], dtype=np.float32), 3).tolist() == [3]
    # Values 0.9 (twice) and 0.5: 2/2 each, then min(1/1, 0.99 * 1) = 0.99.
    assert edge_prizes(np.array([0.9, 0.5, 0.9, 0.1], dtype=np.float32), 2).tolist() == [1.0, 0.99, 1.0, 0.0]


def test_a_prize_is_fetched_when_the_way_costs_less() -> None:
    # A line 0-1-2 with edges of 0.5: node 2's prize of 2 pays for two edges, a prize of 0.4 does not.
    ends = [(0, 1), (1, 2)]
    assert steiner(ends, np.array([3.0, 0, 2.0]), np.zeros(2), 0.5) == ([0, 1, 2], [0, 1])
    assert steiner(ends, np.array([3.0, 0, 0.4]), np.zeros(2), 0.5) == ([0], [])
    assert steiner([], np.array([1.0, 2.0]), np.zeros(0), 0.5) == ([1], [])


def test_an_edge_with_a_prize_of_its_own_is_fetched_with_its_ends() -> None:
    assert steiner([(0, 1), (1, 2)], np.array([3.0, 0.0, 0.0]), np.array([0.0, 2.0]), 0.5) == ([0, 1, 2], [0, 1])


@pytest.mark.parametrize("seed", range(6))
def test_the_tree_is_connected_and_at_most_twice_the_best(seed: int) -> None:
    """Oracle: every connected set of edges of a small graph. What is paid: edges taken, and prizes left (Goemans-Williamson's bound)."""
    rng = np.random.default_rng(seed)
    ends = [(a, b) for a, b in combinations(range(5), 2) if rng.random() < 0.6] or [(0, 1)]
    prizes = rng.integers(0, 4, size=5).astype(float)

    def paid(nodes, edges) -> float:
        return 0.5 * len(edges) + sum(prizes[i] for i in range(5) if i not in nodes)

    def connected(nodes, edges) -> bool:
        reached = {next(iter(nodes))}
        for _ in nodes:
            reached |= {e for i in edges for e in ends[i] if set(ends[i]) & reached}
        return reached >= set(nodes)

    nodes, edges = steiner(ends, prizes, np.zeros(len(ends)), 0.5)
    assert connected(nodes, edges)
    best = min(paid({i}, ()) for i in range(5))
    for size in range(1, 5):
        for some in combinations(range(len(ends)), size):
            covered = {e for i in some for e in ends[i]}
            if connected(covered, some):
                best = min(best, paid(covered, some))
    assert best <= paid(nodes, edges) <= 2 * best + 1e-9


def test_rows_are_exact_spans_and_the_part_is_small_and_connected(corpus, scripted) -> None:
    run = Run("what does osric work as?", corpus, scripted([]))
    found = GRetriever(top_nodes=1, top_edges=1).retrieve(run, "osric works as", None)
    for p in found:
        assert corpus.excerpt(p.source, p.start, p.end) == p.text
        assert p.line == 1 + corpus.excerpt(p.source, 0, p.start).count("\n")
    texts = [p.text for p in found]
    assert "0,Osric" in texts
    assert "0,works as,1" in texts
    assert "5,apple tree" not in texts
    ids = {t.split(",")[0] for t in texts if t.count(",") == 1}
    assert {end for t in texts if t.count(",") == 2 for end in (t.split(",")[0], t.split(",")[2])} <= ids
    assert "kept" in run.notes[0]


def test_given_passages_limit_the_graph(corpus, scripted) -> None:
    rows = parsed("g/nodes.csv", NODES, ("node_id", "node_attr"))
    given = [row.passage for row in rows if row.cells[0] in "34"]
    found = GRetriever().retrieve(Run("q", corpus, scripted([])), "painter", given)
    assert {p.text for p in found} <= {"3,Ida", "4,painter"}


def test_quoted_cells_and_line_ends() -> None:
    rows = parsed("n.csv", 'node_attr,node_id\r\n"a, b",7\r\n\r\nc,8\r\n', ("node_id", "node_attr"))
    assert [(r.cells, r.passage.text, r.passage.line) for r in rows] == [(("7", "a, b"), '"a, b",7', 2), (("8", "c"), "c,8", 4)]


def test_what_is_not_a_graph_is_refused(scripted) -> None:
    one = InMemory([Document("a,b\n1,2\n", "nodes.csv"), Document(EDGES, "edges.csv")], embedder=Words())
    with pytest.raises(SourceError, match="node_id"):
        GRetriever().retrieve(Run("q", one, scripted([])), "q", None)
    with pytest.raises(SourceError, match=r"0 sources are called 'x\.csv'"):
        GRetriever(nodes="x.csv").retrieve(Run("q", one, scripted([])), "q", None)
    with pytest.raises(SourceError, match="has 1 columns"):
        parsed("n.csv", "node_id,node_attr\n1\n", ("node_id", "node_attr"))


@pytest.fixture
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))


def story() -> InMemory:
    """A sentence a document; passages of the fence are numbered as they come."""
    return InMemory([Document(text, f"s{n}.txt") for n, text in enumerate(SAID)], embedder=Words())


def extracting(prompt) -> str:
    assert prompt[0].content == EXTRACT_SYSTEM
    seen = re.findall(r"<passage \[(\d+)\][^\n]*\n(.*?)\n</passage>", prompt[-1].content)
    return json.dumps({"facts": [f"{text} [{n}] | {SAID[text]}" for n, text in seen]})


def test_text_without_a_graph_gets_one_of_its_facts(scripted, private_cache) -> None:
    """Ada – Bo – mill – Oslo is a path; two calls' worth of hops that no single passage holds. Cy and the rain are not joined to it."""
    corpus = story()
    run = Run("Where does Ada's sister work?", corpus, scripted(extracting))
    found = GRetriever(top_nodes=2, top_edges=1, edge_cost=0.1).retrieve(run, "ada oslo", None)
    assert {p.text for p in found} == {"Ada has a sister called Bo.", "Bo works in the mill.", "The mill stands in Oslo."}
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    for p in found:
        assert isinstance(p, Condensed)
        origin = cited(p)
        assert corpus.excerpt(origin.source, origin.start, origin.end) == origin.text == p.text
        assert run.numbered[run.number(p)] == origin


def test_the_graph_of_a_text_is_made_once_and_fits_the_next_run(scripted, private_cache) -> None:
    corpus = story()
    first = Run("q", corpus, scripted(extracting))
    made = GRetriever(top_nodes=1).retrieve(first, "boats", None)
    later = Run("another question", corpus, scripted([]))  # would fail on any call
    later.number(list(corpus.passages())[-1])  # another numbering than the first run's
    assert [(p.text, p.source) for p in GRetriever(top_nodes=1).retrieve(later, "boats", None)] == [(p.text, p.source) for p in made]
    assert first.model.prompts


def test_given_passages_are_all_that_the_graph_is_made_of(scripted, private_cache) -> None:
    corpus = story()
    given = list(corpus.passages())[3:]
    run = Run("q", corpus, scripted(extracting))
    found = GRetriever().retrieve(run, "ada", given)
    assert {cited(p).key for p in found} <= {p.key for p in given}


def test_a_fact_that_no_passage_holds_is_left_out(scripted, private_cache) -> None:
    reply = json.dumps({"facts": ["Dragons sleep underground. | dragons; ground", "Cy likes boats. [4] | Cy; boats"]})
    run = Run("q", story(), scripted([reply] * 3))
    found = GRetriever().retrieve(run, "dragons", None)
    assert {p.text for p in found} == {"Cy likes boats."}
    assert any("1 facts that no passage holds" in note for note in run.notes)


def test_without_facts_the_likest_passages_stand_in(scripted, private_cache) -> None:
    for script, meter in (("no facts here" and [""] * 3, None), ([], Meter(budget=Budget(tokens=20)))):
        run = Run("q", story(), scripted(script), **({} if meter is None else {"meter": meter}))
        found = GRetriever().retrieve(run, "boats likes cy", None)
        assert found[0].text == "Cy likes boats."
        assert any("stand in" in note for note in run.notes)


def test_a_fact_with_one_element_leads_to_its_own_words(scripted) -> None:
    (passage,) = [p for p in story().passages() if p.text == "It rains."]
    graph = Graph(names=["rain", "snow"])
    graph.add("It rains.", passage, [0])
    graph.add("Rain and snow are water.", passage, [0, 1])
    assert (graph.names, graph.ends, graph.of) == (["rain", "snow", "It rains."], [(0, 2), (0, 1)], [0, 1])


def test_a_missing_solver_costs_no_call(scripted, private_cache, monkeypatch) -> None:
    tree.solver.cache_clear()
    monkeypatch.setitem(sys.modules, "pcst_fast", None)  # as if it were not installed
    run = Run("q", story(), scripted(extracting))
    with pytest.raises(MissingExtraError, match="graph"):
        GRetriever().retrieve(run, "boats", None)
    assert run.model.prompts == []


def test_a_graph_that_lacks_a_file_is_no_text(scripted) -> None:
    half = InMemory([Document(NODES, "nodes.csv")], embedder=Words())
    with pytest.raises(SourceError, match=r"0 sources are called 'edges\.csv'"):
        GRetriever().retrieve(Run("q", half, scripted([])), "q", None)


@pytest.mark.parametrize(
    ("field", "value"),
    [("chunk_tokens", 8), ("facts_tokens", 1), ("max_calls", 0), ("top_nodes", -1), ("top_edges", -1), ("edge_cost", 0.0)],
)
def test_options_out_of_range_are_refused(field, value) -> None:
    with pytest.raises(ConfigError, match=field):
        GRetriever(**{field: value})
