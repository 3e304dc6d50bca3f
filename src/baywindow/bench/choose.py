"""The best recipes so far: who goes on to the lengths that not everybody gets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from baywindow.bench.plan import is_random, random_beside
from baywindow.bench.store import Row
from baywindow.recipe import Recipe


def best(rows: Sequence[Row], recipes: Sequence[Recipe], count: int) -> set[str]:
    """Hashes of stock, of the best ``count`` others, and of chance at their sizes where the run has it.

    Ranked by the mean over samples of the answer's NLL less that of the best recipe on the same sample; by score where no NLL was
    measured. Ties go to the recipe named first. Chance is not in the ranking.
    """
    ranked = [r for r in recipes if r != Recipe() and not is_random(r)]
    value = mean_loss(rows)
    order = sorted(ranked, key=lambda r: value.get(r.hash, float("inf")))[:count]
    beside = {b.hash for r in order if (b := random_beside(r)) is not None}
    known = {r.hash for r in recipes}
    return ({Recipe().hash} | {r.hash for r in order} | beside) & known


def mean_loss(rows: Sequence[Row]) -> dict[str, float]:
    """By recipe hash: how far behind the best recipe it is on the same sample, on average (NLL in nats, else 1 − score)."""
    samples: dict[tuple[object, ...], dict[str, float]] = defaultdict(dict)
    for row in rows:
        loss = row.nll if row.nll is not None else None if row.score is None else 1.0 - row.score
        if loss is not None and not row.error:
            samples[row.model, row.task, row.length, row.sample, row.turn][row.recipe_hash] = loss
    found: dict[str, list[float]] = defaultdict(list)
    for by_recipe in samples.values():
        least = min(by_recipe.values())
        for recipe_hash, loss in by_recipe.items():
            found[recipe_hash].append(loss - least)
    return {recipe_hash: sum(values) / len(values) for recipe_hash, values in found.items()}
