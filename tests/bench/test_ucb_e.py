"""The bandit: by hand, against plain loops, and in what it saves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from baywindow.bench import find_best
from baywindow.bench import run as running
from baywindow.bench.engine import Local
from baywindow.bench.plan import Plan
from baywindow.bench.store import Store
from baywindow.bench.ucb_e import UcbE, UcbELowRank, _solved
from baywindow.errors import ConfigError

NAN = np.nan


def test_the_highest_mean_plus_bonus_is_next() -> None:
    # Row 0: mean 0.5 + sqrt(1/4) = 1.0. Row 1: mean 0.2 + sqrt(1/1) = 1.2, so row 1, though its mean is lower.
    observed = np.array([[1.0, 0.0, 1.0, 0.0, NAN], [0.2, NAN, NAN, NAN, NAN]])
    [(row, column)] = UcbE().next(observed)
    assert row == 1
    assert column in (1, 2, 3, 4)
    assert UcbE(exploration=0.0).next(observed) == [(0, 4)]  # without a bonus the better mean, and its only gap


def test_a_recipe_never_measured_comes_first_and_a_finished_one_never() -> None:
    observed = np.array([[1.0, 1.0], [NAN, NAN], [0.0, NAN]])
    assert UcbE().next(observed)[0][0] == 1
    observed[1] = 0.0
    assert UcbE().next(observed) == [(2, 1)]
    observed[2, 1] = 0.0
    assert UcbE().next(observed) == []
    assert UcbELowRank().next(observed) == []


def test_a_ridge_regression_a_row_by_a_plain_loop() -> None:
    draw = np.random.default_rng(5)
    values, fixed, seen = draw.random((4, 6)), draw.normal(size=(6, 2)), draw.random((4, 6)) < 0.7
    found = _solved(np.where(seen, values, 0.0), seen, fixed, 0.1)
    for r in range(4):
        a, b = 0.1 * np.eye(2), np.zeros(2)
        for c in range(6):
            if seen[r, c]:
                a += np.outer(fixed[c], fixed[c])
                b += values[r, c] * fixed[c]
        assert found[r] == pytest.approx(np.linalg.solve(a, b))


def test_gaps_of_a_rank_one_matrix_are_filled_in() -> None:
    draw = np.random.default_rng(0)
    truth = np.outer(draw.uniform(0.3, 1.0, 6), draw.uniform(0.3, 1.0, 40))
    observed = np.where(draw.random(truth.shape) < 0.5, truth, NAN)
    bandit = UcbELowRank(ridge=1e-3, dropped=0.0, iterations=50)
    mean, _ = bandit._completed(observed)
    known = (~np.isnan(observed)).any(axis=0)  # a sample that nobody was measured on stays at 0
    assert np.abs(mean - truth)[:, known].max() < 0.01
    assert bandit.values(observed[:, known]) == pytest.approx(truth[:, known].mean(axis=1), abs=0.01)


def played(bandit: UcbE | UcbELowRank, truth: np.ndarray, evaluations: int) -> int:
    observed = np.full(truth.shape, NAN)
    while (~np.isnan(observed)).sum() < evaluations:
        for row, column in bandit.next(observed):
            observed[row, column] = truth[row, column]
    return int(np.nanargmax(bandit.values(observed)))


def worlds(count: int) -> list[np.ndarray]:
    """20 recipes, 50 samples of unequal difficulty; the best recipe is right 0.85 of the time, the others 0.25 to 0.65."""
    made = []
    for seed in range(count):
        draw = np.random.default_rng(seed)
        skill = np.append(draw.uniform(0.25, 0.65, 19), 0.85)
        easy = draw.uniform(0.8, 1.2, 50)
        made.append((draw.random((20, 50)) < np.clip(np.outer(skill, easy), 0, 1)).astype(float))
    return made


def test_the_best_is_found_with_a_fifth_of_the_evaluations_where_even_shares_fail_more_often() -> None:
    """The paper's claim in miniature: 200 of 1,000 evaluations. The rival spends the same evenly, 10 on each recipe."""
    found = even = 0
    for truth in worlds(20):
        best = int(truth.mean(axis=1).argmax())
        found += played(UcbE(), truth, 200) == best
        draw = np.random.default_rng(1)
        even += int(np.argmax([row[draw.permutation(50)[:10]].mean() for row in truth])) == best
    assert found >= 17
    assert found > even


def test_the_low_rank_variant_needs_fewer_where_samples_differ_in_the_same_way_for_all() -> None:
    """20 recipes whose values are skill times ease, with noise: 100 of 1,000 evaluations on samples of very unequal ease."""
    low_rank = plain = 0
    for seed in range(6):
        draw = np.random.default_rng(seed)
        truth = np.outer(np.append(draw.uniform(0.4, 0.8, 19), 0.95), draw.uniform(0.1, 1.0, 50)) + draw.normal(0, 0.01, (20, 50))
        low_rank += played(UcbELowRank(batch=10, ensemble=16, ridge=0.01), truth, 100) == 19
        plain += played(UcbE(), truth, 100) == 19
    assert low_rank >= 5
    assert low_rank > plain


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch"):
        UcbE(batch=0)
    with pytest.raises(ConfigError, match="exploration"):
        UcbE(exploration=-1)
    with pytest.raises(ConfigError, match="ridge"):
        UcbELowRank(ridge=0)


def test_a_search_measures_the_good_recipe_most_and_resumes(toy, answerer, tmp_path: Path) -> None:
    """`stuff` cannot see past its window of 90 words and so misses half of the codes; full text finds them all."""
    plan = Plan(models=("m",), tasks=("toy.find",), lengths=(256,), recipes=("stuff", "full_text(k=1) > rag"), samples=10)
    path, totals = tmp_path / "s.bay.sqlite", []

    def searched(evaluations: int) -> list[find_best.Ranked]:
        found: list[list[find_best.Ranked]] = []
        model = answerer(context_length=400)
        model.context_length = 330
        with Store(path, write=True, make=True) as store:
            running.each_model(
                store, plan, lambda n, s: model, lambda s: None, Local,
                lambda run, deadline: found.append(find_best.Search(run, UcbE(exploration=0.1), "score", evaluations).go(deadline)),
            )  # fmt: skip
            totals.append(len(store.rows()))
        return found[0]

    searched(4)
    ranking = searched(12)
    assert totals == [4, 12]
    assert ranking[0].recipe == "full_text(k=1) > rag"
    assert ranking[0].evaluations > ranking[1].evaluations
