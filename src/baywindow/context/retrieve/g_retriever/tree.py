"""Which part of a graph is worth fetching: prizes by likeness, and the tree that pays most for its length."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import MissingExtraError


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
    vertices, chosen = solver()(np.array(pairs, dtype=np.int64), prizes, np.array(costs), -1, 1, "gw", 0)
    # An edge stands for itself if it was taken as an edge, or if its node was taken.
    kept = {of_pair[int(i)] for i in chosen if of_pair[int(i)] not in virtual} | {virtual[int(v) - count] for v in vertices if v >= count}
    nodes = {int(v) for v in vertices if v < count} | {end for i in kept for end in ends[i]}
    return sorted(nodes), sorted(kept)


@functools.cache
def solver() -> Any:
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
