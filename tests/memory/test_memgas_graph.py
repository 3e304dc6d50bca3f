"""The arithmetic against networkx, a loop, and numbers derived by hand."""

from __future__ import annotations

import math

import networkx
import numpy as np
import pytest

from baywindow.memory.memgas.graph import near, pagerank, seeds, trust


def test_the_higher_of_two_heaps_is_near():
    # Two heaps of similarities, around 0.8 and around 0.1.
    similarities = np.array([0.10, 0.82, 0.11, 0.80, 0.09, 0.12, 0.79, 0.10])
    assert near(similarities, candidates=30) == [1, 3, 6]


def test_only_the_most_similar_are_candidates():
    # Of the four best (0.82, 0.80, 0.79, 0.12), three are near; with two candidates there is nothing to tell apart.
    similarities = np.array([0.10, 0.82, 0.11, 0.80, 0.09, 0.12, 0.79, 0.10])
    assert near(similarities, candidates=4) == [1, 3, 6]
    assert near(similarities, candidates=2) == []


@pytest.mark.parametrize("values", [[], [0.4], [0.4, 0.4, 0.4, 0.4], [0.1, 0.9]])
def test_nothing_is_linked_where_nothing_can_be_told_apart(values: list[float]):
    assert near(np.array(values), candidates=30) == []


def test_a_view_that_points_somewhere_is_trusted_more():
    sharp, flat = [0.9, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3]
    weights = trust(np.array([sharp, flat]), temperature=0.2)
    assert weights == pytest.approx([1.0, 0.0])  # entropy log 4 of the flat one is all it can be


def test_weights_worked_by_hand():
    # Two sessions. View a: exp(log 3) : 1 → shares 3/4, 1/4; view b: exp(log 9) : 1 → 9/10, 1/10.
    views = np.array([[math.log(3), 0.0], [math.log(9), 0.0]])
    a = 1 - (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(2)
    b = 1 - (0.9 * math.log(10 / 9) + 0.1 * math.log(10)) / math.log(2)
    assert trust(views, temperature=1.0) == pytest.approx([a / (a + b), b / (a + b)])


def test_more_entropy_never_means_more_weight():
    """With H in nats, 1 - H is negative above 1 nat, and after normalising the flatter view wins; divided by log n it cannot."""
    rng = np.random.default_rng(0)
    for sessions in (5, 20, 200):
        views = np.stack([rng.uniform(0, 0.05, sessions), rng.uniform(0, 0.05, sessions) + np.eye(sessions)[0]])
        flat, sharp = trust(views, temperature=0.2)
        assert sharp > flat >= 0


def test_views_that_point_nowhere_weigh_the_same():
    assert trust(np.full((4, 6), 0.2), 0.2) == pytest.approx([0.25] * 4)
    assert trust(np.array([[0.4], [0.9]]), 0.2) == pytest.approx([0.5, 0.5])


def test_seeds_are_the_best_and_never_negative():
    assert seeds(np.array([0.1, 0.3, 0.2, -0.5]), count=2).tolist() == pytest.approx([0, 0.6, 0.4, 0])
    assert seeds(np.array([-1.0, -2.0]), count=2).tolist() == [0, 0]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("damping", [0.1, 0.85])
def test_pagerank_is_that_of_networkx(seed: int, damping: float):
    rng = np.random.default_rng(seed)
    links = np.array([(a, b) for a in range(12) for b in range(a) if rng.random() < 0.25])
    reset = seeds(rng.random(14), count=5)  # nodes 12 and 13 have no link
    graph = networkx.MultiGraph()
    graph.add_nodes_from(range(14))
    graph.add_edges_from(links.tolist())
    expected = networkx.pagerank(graph, alpha=damping, personalization=dict(enumerate(reset)), tol=1e-12, max_iter=1000)
    assert pagerank(links, reset, damping) == pytest.approx([expected[i] for i in range(14)], abs=1e-9)


def test_without_links_the_seeds_stand():
    reset = np.array([0.0, 0.7, 0.3])
    assert pagerank(np.zeros((0, 2), dtype=np.int64), reset, 0.1) == pytest.approx(reset)
