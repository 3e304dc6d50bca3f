"""Relative times against a calendar: 8 May 2023 was a Monday."""

from __future__ import annotations

import calendar
from datetime import date, timedelta

import pytest

from baywindow.memory.dates import WEEKDAYS, dated, day

MONDAY = date(2023, 5, 8)


@pytest.mark.parametrize(
    ("words", "resolved"),
    [
        ("yesterday", "7 May 2023"),
        ("last night", "7 May 2023"),
        ("the day before yesterday", "6 May 2023"),
        ("today", "8 May 2023"),
        ("the day after tomorrow", "10 May 2023"),
        ("last Friday", "5 May 2023"),
        ("last Monday", "1 May 2023"),  # not the day itself
        ("next monday", "15 May 2023"),
        ("this Monday", "8 May 2023"),
        ("next Friday", "12 May 2023"),
        ("last week", "the week of 1 May 2023"),
        ("next weekend", "the weekend of 20 May 2023"),
        ("last month", "April 2023"),
        ("5 months ago", "December 2022"),
        ("next year", "2024"),
        ("three days ago", "5 May 2023"),
        ("two weeks ago", "the week of 24 April 2023"),
        ("a year ago", "2022"),
        ("in two days", "10 May 2023"),
    ],
)
def test_words_for_a_time_get_its_date(words: str, resolved: str):
    assert dated(f"We met {words}.", MONDAY) == f"We met {words} ({resolved})."


@pytest.mark.parametrize("text", ["We meet on Friday.", "She left recently.", "In May we may go.", "He did it in two days of work.", ""])
def test_what_does_not_point_to_one_time_is_left_alone(text: str):
    assert dated(text, MONDAY) == text


def test_a_resolved_time_is_not_resolved_again():
    once = dated("I ran yesterday and three days ago.", MONDAY)
    assert dated(once, date(2024, 1, 1)) == once


@pytest.mark.parametrize("start", [date(2023, 12, 28), date(2024, 2, 26), MONDAY])
def test_weekdays_agree_with_a_search_through_the_calendar(start: date):
    for offset in range(7):
        said = start + timedelta(days=offset)
        for name in WEEKDAYS:
            number = list(calendar.day_name).index(name.capitalize())
            before = next(d for n in range(1, 9) if (d := said - timedelta(days=n)).weekday() == number)
            after = next(d for n in range(1, 9) if (d := said + timedelta(days=n)).weekday() == number)
            assert f"({day(before)})" in dated(f"last {name}", said)
            assert f"({day(after)})" in dated(f"next {name}", said)


def test_a_leap_day_and_the_ends_of_the_calendar():
    assert dated("yesterday", date(2024, 3, 1)) == "yesterday (29 February 2024)"
    assert dated("tomorrow", date.max) == "tomorrow"
    assert dated("999 years ago", date(500, 1, 1)) == "999 years ago (1)"
