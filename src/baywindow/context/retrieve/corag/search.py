"""Monte-Carlo tree search over ordered lists of candidates.

What is known of a node's children is kept in arrays of its own, so that choosing among a hundred of them is one line of numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from baywindow.context.retrieve.corag.scores import SetScores


@dataclass
class _Node:
    """A list of candidates; the arrays are (child,), empty until it is expanded."""

    chosen: tuple[int, ...]
    cost: int
    visits: float = 0.0
    expanded: bool = False
    added: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    own: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    rewards: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    children: dict[int, _Node] = field(default_factory=dict)


class Search:
    """``best`` is the best list met so far, ``best_score`` its own score; equal scores keep the list met first."""

    def __init__(self, scores: SetScores, costs: Sequence[int], budget: int, longest: int, exploration: float, cost_weight: float) -> None:
        self._scores = scores
        self._costs = np.asarray(costs, dtype=np.int64)
        self._budget, self._longest = budget, longest
        self._exploration, self._cost_weight = exploration, cost_weight
        self._root = _Node((), 0)
        self.best: tuple[int, ...] = ()
        self.best_score = -np.inf

    def run(self, iterations: int, alive: Callable[[], bool] = lambda: True) -> None:
        """At least one iteration, so that there is a list to return; then until ``alive`` says no."""
        for _ in range(iterations):
            self._iterate()
            if not alive():
                return

    def _iterate(self) -> None:
        path: list[tuple[_Node, int]] = []
        node = self._root
        while node.expanded and len(node.added):
            at = self._chosen_child(node)
            path.append((node, at))
            if at not in node.children:
                cost = node.cost + int(self._costs[node.added[at]])
                node.children[at] = _Node((*node.chosen, int(node.added[at])), cost)
            node = node.children[at]
        gained, count = self._expand(node)
        if not count and path:  # a full list: it is visited once more, so that the search turns elsewhere
            parent, at = path[-1]
            gained, count = float(parent.own[at]), 1
        for parent, at in path:
            parent.rewards[at] += gained
            parent.counts[at] += count
            parent.visits += count
        node.visits += count

    def _chosen_child(self, node: _Node) -> int:
        mean = node.rewards / node.counts
        novelty = self._exploration * np.sqrt(np.log(max(node.visits, 1.0)) / node.counts)
        price = self._cost_weight * (node.cost + self._costs[node.added]) / self._budget
        return int(np.argmax(mean + novelty - price))

    def _expand(self, node: _Node) -> tuple[float, int]:
        """Score every way to add one candidate that the budget allows: the sum of the scores, and how many there are."""
        if node.expanded:
            return 0.0, 0
        node.expanded = True
        if len(node.chosen) < self._longest:
            free = np.ones(len(self._costs), dtype=bool)
            free[list(node.chosen)] = False
            node.added = np.flatnonzero(free & (node.cost + self._costs <= self._budget))
        if not len(node.added):
            return 0.0, 0
        node.own = self._scores.with_one_more(node.chosen, node.added)
        node.rewards = node.own.astype(np.float64)
        node.counts = np.ones(len(node.added))
        top = int(np.argmax(node.own))
        if node.own[top] > self.best_score:
            self.best, self.best_score = (*node.chosen, int(node.added[top])), float(node.own[top])
        return float(node.rewards.sum()), len(node.added)
