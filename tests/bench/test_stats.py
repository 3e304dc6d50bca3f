"""Intervals and differences, against values worked out by hand and against exact enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from baywindow.bench.stats import difference, interval


def paired(values: list[float]) -> dict[tuple[object, ...], float]:
    return {(i,): v for i, v in enumerate(values)}


def test_the_mean_over_tasks_weighs_tasks_alike() -> None:
    # (1 + 0 + 0 + 0) / 4 = 0.25 and (1 + 1) / 2 = 1: their mean is 0.625, not 3 / 6.
    found = interval({"a": [1, 0, 0, 0], "b": [1, 1]})
    assert found is not None
    assert found.mean == 0.625
    assert found.n == 6


def test_the_interval_covers_what_it_should() -> None:
    """95 % intervals of the mean of 30 normal draws hold the true mean about 95 times in 100 (90 to 98 allowed: bootstrap, 200 trials)."""
    draw = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        found = interval(list(draw.normal(2.0, 1.0, size=30)))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 2.0 <= found.high
    assert 180 <= held <= 197


def test_all_right_is_not_certainty() -> None:
    # Clopper-Pearson for 10 of 10: 0.025 ** (1 / 10) = 0.6915.
    found = interval([1.0] * 10)
    assert found is not None
    assert found.low == pytest.approx(0.6915, abs=1e-4)
    assert found.high == 1.0
    none = interval([0.0] * 10)
    assert none is not None
    assert none.high == pytest.approx(0.3085, abs=1e-4)


def test_few_values_have_no_interval_and_none_no_mean() -> None:
    few = interval([0.0, 1.0, 0.5])
    assert few is not None
    assert (few.mean, few.low, few.n) == (0.5, None, 3)
    assert interval([]) is None
    assert interval({"a": []}) is None


def test_a_difference_is_taken_on_common_samples_only() -> None:
    one = {("a",): 3.0, ("b",): 5.0, ("c",): 100.0}
    other = {("a",): 1.0, ("b",): 1.0, ("d",): -100.0}
    found = difference(one, other)
    assert found is not None
    assert found.interval.mean == 3.0  # (2 + 4) / 2
    assert found.interval.n == 2
    assert not found.seen  # two samples show nothing
    assert difference({("a",): 1.0}, {("b",): 1.0}) is None


def test_p_is_that_of_all_sign_changes() -> None:
    values = [0.9, 1.1, 0.4, 1.6, -0.2, 0.7, 0.3, 1.0]
    exact = np.mean([abs(np.mean(np.array(s) * values)) >= abs(np.mean(values)) - 1e-12 for s in itertools.product([1, -1], repeat=8)])
    found = difference(paired(values), paired([0.0] * 8))
    assert found is not None
    assert found.p == pytest.approx(exact, abs=0.01)
    assert found.seen


def test_noise_is_no_difference_and_equality_neither() -> None:
    found = difference(paired([1.0, -1.0, 0.5, -0.5, 0.2, -0.1]), paired([0.0] * 6))
    assert found is not None
    assert not found.seen
    same = difference(paired([0.3] * 6), paired([0.3] * 6))
    assert same is not None
    assert not same.seen
    assert same.p == 1.0


def test_the_same_values_give_the_same_interval() -> None:
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    assert interval(values) == interval(list(values))
