"""Relative times in what people say, resolved against the day they said it.

"I saw her yesterday", said on 8 May 2023, is worth little in June. `dated` writes the day behind the words, ``yesterday (7 May
2023)``, and leaves the words as they were said. It knows the English expressions that point to one day, week, month or year; what
depends on tense or taste ("on Friday", "recently", "soon") is left alone, for a wrong date is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
FIXED_DAYS = {
    "the day before yesterday": -2,
    "yesterday": -1,
    "last night": -1,
    "today": 0,
    "tonight": 0,
    "this morning": 0,
    "this afternoon": 0,
    "this evening": 0,
    "tomorrow": 1,
    "the day after tomorrow": 2,
}
_COUNT = rf"(?P<count>\d{{1,3}}|{'|'.join(NUMBERS)})"
_RELATIVE = re.compile(
    rf"\b(?:(?P<fixed>{'|'.join(sorted(FIXED_DAYS, key=len, reverse=True))})"
    rf"|(?P<which>last|this|next) (?P<what>{'|'.join(WEEKDAYS)}|weekend|week|month|year)"
    rf"|{_COUNT} (?P<unit>day|week|month|year)s? ago"
    rf"|in {_COUNT.replace('count', 'ahead')} (?P<later>day|week|month|year)s?(?= time\b|[.,;!?]|$))\b"
    r"(?! \()",  # what was resolved before
    re.IGNORECASE,
)


def day(when: date) -> str:
    """``7 May 2023``."""
    return f"{when.day} {_month(when)}"


def dated(text: str, said: date) -> str:
    """The text with the date behind every relative time in it, for a text said on that day."""
    return _RELATIVE.sub(lambda m: _behind(m, said), text)


def _behind(match: re.Match[str], said: date) -> str:
    try:
        return f"{match.group()} ({_resolved(match, said)})"
    except OverflowError:  # before the year 1 or after 9999
        return match.group()


def _month(when: date) -> str:
    return f"{MONTHS[when.month - 1]} {when.year}"


def _resolved(match: re.Match[str], said: date) -> str:
    if fixed := match["fixed"]:
        return day(said + timedelta(days=FIXED_DAYS[fixed.lower()]))
    if match["which"]:
        return _named(match["what"].lower(), {"last": -1, "this": 0, "next": 1}[match["which"].lower()], said)
    count, unit, sign = (match["count"], match["unit"], -1) if match["count"] else (match["ahead"], match["later"], 1)
    return _STEPS[unit.lower()](said, sign * (NUMBERS.get(count.lower()) or int(count)))


def _named(what: str, step: int, said: date) -> str:
    """``last friday`` is the latest Friday before, ``next friday`` the first after, ``this friday`` the first from that day on."""
    if what in WEEKDAYS:
        ahead = (WEEKDAYS.index(what) - said.weekday()) % 7
        return day(said + timedelta(days=ahead - 7 if step < 0 else ahead + 7 if step and not ahead else ahead))
    if what == "weekend":
        saturday = said + timedelta(days=5 - said.weekday() + 7 * step)
        return f"the weekend of {day(saturday)}"
    return _STEPS[what](said, step)


def _week(said: date, step: int) -> str:
    return f"the week of {day(said - timedelta(days=said.weekday()) + timedelta(weeks=step))}"


def _months(said: date, step: int) -> str:
    years, month = divmod(said.month - 1 + step, 12)
    return _month(date(_year(said, years), month + 1, 1))


def _year(said: date, step: int) -> int:
    return min(max(said.year + step, date.min.year), date.max.year)


_STEPS: dict[str, Callable[[date, int], str]] = {
    "day": lambda said, step: day(said + timedelta(days=step)),
    "week": _week,
    "month": _months,
    "year": lambda said, step: str(_year(said, step)),
}
