"""Budgets: parsing, refusing before the start, never passing a limit, and the share a technique may keep."""

from __future__ import annotations

import time
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baywindow.budget import Budget, Budgeted, Meter, Prices, Usage, prices_from
from baywindow.errors import BudgetError, ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Budget()),
        ("tokens=4000", Budget(tokens=4000)),
        ("tokens=4_000", Budget(tokens=4000)),
        (" usd=0.05 , seconds=30,tokens=1,", Budget(tokens=1, seconds=30.0, usd=0.05)),
        ("seconds=1.5e1", Budget(seconds=15.0)),
        ("calls=8,tokens=100", Budget(tokens=100, calls=8)),
    ],
)
def test_a_budget_is_read_from_text(text: str, expected: Budget):
    assert Budget.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tokens", "budget 'tokens' is not understood"),
        ("minutes=3", "budget 'minutes=3' is not understood"),
        ("tokens=many", "budget tokens='many' is not allowed"),
        ("tokens=1.5", "budget tokens='1.5' is not allowed"),
        ("tokens=0", "budget tokens=0 is not allowed"),
        ("seconds=-1", "budget seconds=-1.0 is not allowed"),
        ("seconds=nan", "budget seconds=nan is not allowed"),
        ("usd=", "budget usd='' is not allowed"),
        ("tokens=1,tokens=2", "budget tokens was given twice"),
    ],
)
def test_a_bad_budget_is_refused_by_name(text: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        Budget.parse(text)


@given(
    tokens=st.none() | st.integers(1, 10**9),
    seconds=st.none() | st.floats(0.001, 1e6),
    usd=st.none() | st.floats(1e-6, 1e4),
)
def test_what_is_written_is_read_back(tokens: int | None, seconds: float | None, usd: float | None):
    parts = {"tokens": tokens, "seconds": seconds, "usd": usd}
    text = ",".join(f"{name}={value}" for name, value in parts.items() if value is not None)
    assert Budget.parse(text) == Budget(tokens=tokens, seconds=seconds, usd=usd)


def test_money_by_hand():
    # 2 M prompt tokens at 0.15 and half a million generated at 0.60 a million: 0.30 + 0.30.
    assert Prices(prompt_usd=0.15, generated_usd=0.60).of(2_000_000, 500_000) == pytest.approx(0.60)
    assert prices_from({"prompt_usd": 1.0}) == Prices(prompt_usd=1.0)
    assert prices_from(None) is None


def test_the_least_possible_cost_decides_before_the_start():
    meter = Meter(budget=Budget(tokens=100))
    meter.refuse_if_above(Usage(calls=1, prompt_tokens=90, generated_tokens=10))
    with pytest.raises(BudgetError, match="the least this can cost is 101 tokens; the budget is 100") as error:
        meter.refuse_if_above(Usage(calls=1, prompt_tokens=91, generated_tokens=10))
    assert "tokens=101" in error.value.hint
    dear = Meter(budget=Budget(usd=0.01), prices=Prices(prompt_usd=1.0, generated_usd=2.0))
    dear.refuse_if_above(Usage(prompt_tokens=10_000))  # exactly 0.01
    with pytest.raises(BudgetError, match=r"0\.010002 USD; the budget is 0\.010000"):
        dear.refuse_if_above(Usage(prompt_tokens=10_000, generated_tokens=1))


def test_money_without_prices_is_refused_not_guessed():
    with pytest.raises(BudgetError, match="needs prices"):
        Meter(budget=Budget(usd=1.0))


def test_no_call_passes_a_limit():
    meter = Meter(budget=Budget(tokens=100))
    assert meter.allows(60, 40)
    assert not meter.allows(60, 41)
    meter.charge(60, 20)
    assert meter.allows(10, 10)
    assert not meter.allows(11, 10)
    assert meter.tokens == 80


def test_calls_are_a_limit_too():
    meter = Meter(budget=Budget(calls=3))
    meter.charge(10, 5)
    assert meter.calls_left() == 2
    assert meter.allows(10**6, 10**6, calls=2)
    assert not meter.allows(1, 1, calls=3)
    meter.charge(1, 1)
    meter.charge(1, 1)
    assert not meter.allows(1, 1)
    with pytest.raises(BudgetError, match="at least 4 calls; the budget is 3"):
        meter.refuse_if_above(Usage(calls=4))
    meter.refuse_if_above(Usage(calls=3))


@given(calls=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30), limit=st.integers(1, 400))
def test_charging_only_what_is_allowed_never_exceeds_the_budget(calls: list[tuple[int, int]], limit: int):
    meter = Meter(budget=Budget(tokens=limit, usd=limit / 1e6), prices=Prices(prompt_usd=1.0, generated_usd=1.5))
    for call in calls:
        if meter.allows(*call):
            meter.charge(*call)
    assert meter.tokens <= limit
    assert meter.usage.usd is not None
    assert meter.usage.usd <= limit / 1e6 + 1e-12


def test_seconds_are_a_deadline():
    meter = Meter(budget=Budget(seconds=60.0), started=time.monotonic() - 50)
    assert 0 < meter.seconds_left() <= 10
    assert meter.allows(1, 1)
    late = Meter(budget=Budget(seconds=60.0), started=time.monotonic() - 61)
    assert late.seconds_left() == 0.0
    assert not late.allows(1, 1)
    assert Meter().seconds_left() == float("inf")


def test_usage_adds_up_and_remembers_estimates():
    meter = Meter(prices=Prices(prompt_usd=1.0, generated_usd=1.0))
    meter.charge(10, 5)
    meter.charge(20, 5, estimated=True)
    meter.charge(1, 1)
    usage = meter.usage
    assert (usage.calls, usage.prompt_tokens, usage.generated_tokens, usage.tokens) == (3, 31, 11, 42)
    assert usage.estimated
    assert usage.usd == pytest.approx(42e-6)
    assert Meter().usage.usd is None


class Share(Budgeted):
    default_budget_tokens: ClassVar[int] = 7


def test_a_share_is_tokens_or_a_fraction_and_never_nothing():
    assert Share().budget_of(100) == 7
    assert Share(budget_tokens=30).budget_of(10) == 30
    assert Share(budget_fraction=0.25).budget_of(10) == 2  # 2.5, rounded to even
    assert Share(budget_fraction=0.001).budget_of(10) == 1
    assert Share(budget_fraction=1.0).budget_of(10) == 10
    assert Share(budget_fraction=0.5).budget_tokens is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"budget_tokens": 5, "budget_fraction": 0.5}, "both given"),
        ({"budget_tokens": 0}, "budget_tokens=0"),
        ({"budget_fraction": 0.0}, r"budget_fraction=0\.0"),
        ({"budget_fraction": 1.01}, r"budget_fraction=1\.01"),
    ],
)
def test_a_share_that_means_nothing_is_refused(options: dict, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        Share(**options)
