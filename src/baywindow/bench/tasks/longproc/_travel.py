"""travel_planning: an order of cities with flights between them and some dates fixed, by a search whose every branch is written down."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.sized import rng_of
from baywindow.bench.tasks._names import Fresh
from baywindow.bench.tasks.longproc._shared import Problem, in_prose, level_of, right_beginning, tagged

NAME = "longproc.travel_planning"
RULES = """A journey through cities is to be planned. It is known how many days each city takes, which flights there are (one-way), \
and for some cities on which days they must be visited. The day of a flight counts for both cities. Search in this order and write down \
every step:
- If a city is fixed to begin on the day that has come, it is the only choice; else try the other cities as they are listed.
- Drop a choice without a flight from the city before it, or one that ends after the next fixed city begins.
- Go on from the last day of the choice. If no choice is left, go back.
- When all cities have their place, write the plan between <Plan> and </Plan>.

Example.
{example}

The text that follows holds one such problem in <problem> tags; the rest of it is of no importance."""
QUESTION = "Solve the problem in the <problem> tags of the text. Write the whole search and the plan in the form of the example."
LEVELS_OF_CITIES = {"2k": (5, 7), "8k": (8, 10)}
_SHARE = (0.3, 0.95)  # of the level's length: between these the search ends


@dataclass(frozen=True)
class Trip:
    """Days a city takes, the first day of those that are fixed, and the flights. The journey begins on day 1."""

    days: dict[str, int]
    fixed: dict[str, int]
    flights: frozenset[tuple[str, str]]

    @property
    def told(self) -> str:
        cities = [
            f"{city}: {days} days" + (f", fixed to day {self.fixed[city]}-{self.fixed[city] + days - 1}" if city in self.fixed else "")
            for city, days in self.days.items()
        ]
        flights = ", ".join(f"{a} to {b}" for a, b in sorted(self.flights))
        return "\n".join([*cities, f"Flights: {flights}."])


EXAMPLE = Trip({"Bont": 2, "Arl": 3, "Cray": 3}, {"Cray": 4}, frozenset({("Arl", "Bont"), ("Bont", "Cray")}))
Plan = tuple[tuple[str, int, int], ...]  # city, first and last day


def travel_planning(order: Order) -> Sample:
    """A trip with exactly one plan, whose search is as long as the level asks for."""
    level, length, most = level_of(order, "2k")
    trip, gold = _drawn(rng_of(NAME, order), level, length, order)
    problem = Problem(
        text=trip.told,
        rules=RULES.format(example=f"{EXAMPLE.told}\n{solved(EXAMPLE)}"),
        question=QUESTION,
        gold=gold,
        scorer="longproc_plan",
        facts={"level": level, "cities": len(trip.days), "gold_tokens": order.counter(gold)},
    )
    return in_prose(NAME, order, problem, most)


def solved(trip: Trip) -> str:
    """The search up to the first plan, and that plan."""
    log: list[str] = []
    plan = next(iter(plans(trip, log)))
    return "\n".join([*log, "<Plan>", *(f"Day {first}-{last}: {city}" for city, first, last in plan), "</Plan>"])


def plans(trip: Trip, log: list[str], most: int = 1) -> list[Plan]:
    """Up to ``most`` plans in the order of the search, which is written into ``log``."""
    found: list[Plan] = []
    _search(trip, (), log, found, most)
    return found


def _search(trip: Trip, plan: Plan, log: list[str], found: list[Plan], most: int) -> None:
    indent, day = "  " * len(plan), plan[-1][2] if plan else 1
    placed = [city for city, _, _ in plan]
    fixed = [city for city, first in trip.fixed.items() if first == day and city not in placed]
    choices = fixed or [city for city in trip.days if city not in placed and city not in trip.fixed]
    log.append(
        f"{indent}Day {day}, after {', '.join(placed) or 'the start'}. {'Fixed' if fixed else 'Choices'}: {', '.join(choices) or 'none'}."
    )
    following = min((first for city, first in trip.fixed.items() if first > day), default=None)
    for city in choices:
        last = day + trip.days[city] - 1
        step = f"{indent}- {city} on day {day}-{last}: "
        if placed and (placed[-1], city) not in trip.flights:
            log.append(f"{step}no flight from {placed[-1]}, drop.")
        elif following is not None and last > following:
            log.append(f"{step}ends after day {following}, drop.")
        else:
            now = (*plan, (city, day, last))
            log.append(f"{step}possible.")
            if len(now) == len(trip.days):
                found.append(now)
            else:
                _search(trip, now, log, found, most)
            if len(found) >= most:
                return
    log.append(f"{indent}No choice left on day {day}, go back.")


def _drawn(rng: random.Random, level: str, length: int, order: Order) -> tuple[Trip, str]:
    """Trips are drawn until one has a single plan and a search of the length wanted."""
    low, high = (share * length for share in _SHARE)
    while True:
        trip = _trip(rng, rng.randint(*LEVELS_OF_CITIES[level]))
        if len(plans(trip, [], most=2)) != 1:
            continue
        gold = solved(trip)
        if low < order.counter(gold) <= high:
            return trip, gold


def _trip(rng: random.Random, count: int) -> Trip:
    """A plan is drawn first, so that there is one; then flights beside it, and which of its dates are told."""
    fresh = Fresh(rng)
    cities = [fresh.name() for _ in range(count)]
    days = {city: rng.randint(2, 6) for city in cities}
    starts, day = {}, 1
    for city in cities:
        starts[city] = day
        day += days[city] - 1
    flights = set(itertools.pairwise(cities))
    flights |= {(a, b) for a in cities for b in cities if a != b and rng.random() < 0.45}
    fixed = set(rng.sample(cities[1:], max(1, count // 4)))
    listed = rng.sample(cities, count)
    return Trip({c: days[c] for c in listed}, {c: starts[c] for c in listed if c in fixed}, frozenset(flights))


def _plan(reply: str) -> list[tuple[str, ...]]:
    return re.findall(r"Day (\d+)\s*-\s*(\d+)\W+([^\W\d]+)", tagged(reply, "Plan") or "")


@metric
def longproc_plan(reply: str, turn: Turn) -> float:
    """1 if cities and days between the tags are those of the only plan."""
    return float(_plan(reply) == _plan(turn.gold[0]))


@metric
def longproc_plan_partial(reply: str, turn: Turn) -> float:
    """1 for the right plan, else the share of the search that is right before its first wrong line."""
    said, gold = ([line.strip() for line in text.split("<Plan>")[0].strip().splitlines()] for text in (reply, turn.gold[0]))
    return longproc_plan(reply, turn) or right_beginning(said, gold)
