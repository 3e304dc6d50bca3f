"""path_traversal: follow one-way connections, one to a city, from a city to another, and write down every step."""

from __future__ import annotations

import random

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._names import Fresh
from baywindow.bench.tasks._whole import Whole
from baywindow.bench.tasks.longproc._shared import level_of, right_beginning, scorer_of, tagged
from baywindow.documents.base import Document

NAME = "longproc.path_traversal"
INSTRUCTION = """Cities of an invented country have one connection each, which leads to one other city and only in that direction. Find \
the way from one city to another: look up where the first city leads, then where that one leads, until you arrive. Write every step on its \
own line between <Route> and </Route>.

Example. Dorrel leads to Mian by train. Osk leads to Dorrel by bus. Mian leads to Tave by ferry. Tave leads to Osk by plane.
From Osk to Tave:
<Route>
Osk to Dorrel by bus
Dorrel to Mian by train
Mian to Tave by ferry
</Route>

These are the cities:"""
QUESTION = "From {start} to {end}: write the route in the form of the example, every step on its own line between <Route> and </Route>."
MODES = ("bus", "train", "plane", "ferry")


def path_traversal(order: Order) -> Sample:
    """The route is as long as the level asks for; the other cities, which fill the length, lead anywhere and are led to by none of it."""
    level, target, most = level_of(order)
    rng = rng_of(NAME, order)
    fresh = Fresh(rng)
    steps = _route(fresh, rng, target, order)
    gold = "\n".join(["<Route>", *(f"{a} to {b} by {mode}" for a, b, mode in steps), "</Route>"])
    placed = [(rng.random(), _told(*step)) for step in steps]
    question = QUESTION.format(start=steps[0][0], end=steps[-1][1])
    known = [a for a, _, _ in steps]
    others = Whole(lambda: _other(fresh, known, rng), order.counter)
    overhead = sum(order.counter("\n" + part) for part in (INSTRUCTION, question, *(text for _, text in placed)))

    def build(room: int) -> Sample:
        lines = insert_at(others.upto(room - overhead), placed)
        return Sample(
            id="",
            documents=(Document("\n".join(lines), "cities.txt"),),
            instruction=INSTRUCTION,
            question=question,
            gold=(gold,),
            scorer=scorer_of(order, "longproc_route"),
            max_new_tokens=most,
            metadata={"level": level, "steps": len(steps), "cities": len(lines), "gold_tokens": order.counter(gold)},
        )

    return sized(NAME, order, build)


def _route(fresh: Fresh, rng: random.Random, target: int, order: Order) -> list[tuple[str, str, str]]:
    """Steps until their lines make up nearly ``target`` tokens."""
    steps: list[tuple[str, str, str]] = []
    here, used = fresh.name(), 0
    while True:
        step = (here, fresh.name(), rng.choice(MODES))
        used += order.counter(f"\n{step[0]} to {step[1]} by {step[2]}")
        if steps and used > 0.97 * target:
            return steps
        steps.append(step)
        here = step[1]


def _told(start: str, end: str, mode: str) -> str:
    return f"{start} leads to {end} by {mode}."


def _other(fresh: Fresh, known: list[str], rng: random.Random) -> str:
    """A city that is on no route asked for; it may lead onto the route, so that arriving there proves nothing."""
    city, end = fresh.name(), rng.choice(known)
    known.append(city)
    return _told(city, end, rng.choice(MODES))


def _steps(reply: str) -> list[str]:
    return [line.strip() for line in (tagged(reply, "Route") or "").splitlines() if line.strip()]


@metric
def longproc_route(reply: str, turn: Turn) -> float:
    """1 if the route between the tags is the gold one, line for line."""
    return float(_steps(reply) == _steps(turn.gold[0]))


@metric
def longproc_route_partial(reply: str, turn: Turn) -> float:
    """Share of the route that is right before its first wrong line."""
    return right_beginning(_steps(reply), _steps(turn.gold[0]))
