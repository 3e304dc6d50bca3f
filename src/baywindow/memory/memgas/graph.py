"""The arithmetic of MemGAS: which memories are linked, how far each view is trusted, and who is reached from the best ones.

Vectors are unit rows (node, dim); nodes of one session stand side by side, one a view, older sessions first.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from baywindow.errors import MissingExtraError

Floats = NDArray[np.float64]

COMPONENTS = 2  # what is near and what is not
_TOLERANCE = 1e-12


def near(similarities: Floats, candidates: int) -> list[int]:
    """Positions whose similarity falls in the higher of two Gaussians fitted to the ``candidates`` highest, most similar first.

    Empty where there is nothing to tell apart: fewer than three values, or all the same.
    """
    order = np.argsort(-similarities, kind="stable")[:candidates]
    values = similarities[order].reshape(-1, 1)
    if len(np.unique(values.round(9))) <= COMPONENTS:
        return []
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ModuleNotFoundError:
        raise MissingExtraError.of("what links memories (scikit-learn)", "local") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit still splits; nothing is lost but a link
        mixture = GaussianMixture(COMPONENTS, random_state=0).fit(values)
    higher = int(np.argmax(mixture.means_.ravel()))
    return [int(i) for i in order[mixture.predict(values) == higher]]


def trust(similarities: Floats, temperature: float) -> Floats:
    """One weight a view, from how sharply its similarities (view, session) point somewhere: 1 - H / log n, made to sum to 1.

    H is the entropy of softmax(similarity / temperature). The weights are equal if no view points anywhere.
    """
    views, sessions = similarities.shape
    if sessions < 2:
        return np.full(views, 1 / views)
    scaled = similarities / temperature
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1)
    sharp = np.maximum(0.0, 1 - entropy / np.log(sessions))
    total = float(sharp.sum())
    return sharp / total if total > _TOLERANCE else np.full(views, 1 / views)


def seeds(scores: Floats, count: int) -> Floats:
    """The ``count`` best scores as shares that sum to 1, all others 0; zeros if no score is above 0."""
    kept = np.zeros_like(scores)
    best = np.argsort(-scores, kind="stable")[:count]
    kept[best] = np.maximum(0.0, scores[best])
    total = float(kept.sum())
    return kept / total if total > 0 else kept


def pagerank(links: NDArray[np.int64], reset: Floats, damping: float) -> Floats:
    """Personalised PageRank over undirected ``links`` (link, 2): a walk follows a link with probability ``damping``, else starts again
    at ``reset``, as it does where a node has no link. Sums to 1 as ``reset`` does.
    """
    both = np.concatenate([links, links[:, ::-1]]) if len(links) else np.zeros((0, 2), dtype=np.int64)
    sources, targets = both[:, 0], both[:, 1]
    degree = np.bincount(sources, minlength=len(reset))
    reached = reset.copy()
    for _ in range(1000):
        flow = np.bincount(targets, weights=reached[sources] / degree[sources], minlength=len(reset))
        stuck = float(reached[degree == 0].sum())
        following = damping * flow + (1 - damping + damping * stuck) * reset
        change = float(np.abs(following - reached).sum())
        reached = following
        if change < _TOLERANCE:
            break
    return reached
