"""Values to look up and threads to follow in a JSON object of random identifiers: where a value is itself a key, the thread goes on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from baywindow.bench.base import Order, Sample
from baywindow.bench.sized import rng_of
from baywindow.bench.tasks._pairs import UUIDS, a_uuid, among_pairs
from baywindow.errors import ConfigError

SUITE_NAME = "needle_threading"
MARK = "*"
DIRECTIONS = ("forward", "backward", "random")
PLACEMENTS = ("random", "clustered")
CLUSTER = 0.05  # of the object: how widely clustered needles are spread
LOOK_UP = "Below is a JSON object. Take from it what is asked for at the end."
FOLLOW = (
    "Below is a JSON object. A thread starts at a key; its value may again be a key of the object, which continues the thread, "
    "until a value is no key."
)
REPLY_ONE = "Reply with the value alone."
REPLY_MANY = "Reply with the values alone, as a list in the order {order}."


def number(order: Order, name: str, least: int, default: int) -> int:
    """An option that is a whole number; ConfigError below the least."""
    value = order.options.get(name, default)
    if not isinstance(value, int) or value < least:
        raise ConfigError.bad_value(name, value, f"a whole number from {least}")
    return value


def choice(order: Order, name: str, allowed: Sequence[str]) -> str:
    value = order.options.get(name, allowed[0])
    if value not in allowed:
        raise ConfigError.bad_value(name, value, " or ".join(allowed))
    return str(value)


def single(order: Order) -> Sample:
    """One key at one depth."""
    rng = rng_of(f"{SUITE_NAME}.single", order)
    key, value = a_uuid(rng), a_uuid(rng)
    depth = order.depth if order.depth is not None else rng.choice([i / 10 for i in range(11)])
    made = _asked(LOOK_UP, f'What is the value of the key "{key}"? {REPLY_ONE}', [value], {"depth": depth})
    return among_pairs(f"{SUITE_NAME}.single", order, made, [(depth, _pair(key, value))], UUIDS)


def multi(order: Order) -> Sample:
    """Several keys, anywhere or close together."""
    task = f"{SUITE_NAME}.multi"
    rng = rng_of(task, order)
    needles = [(a_uuid(rng), a_uuid(rng)) for _ in range(number(order, "needles", 1, 5))]
    placement = choice(order, "placement", PLACEMENTS)
    depths = _depths(rng, len(needles), placement)
    keys = ", ".join(f'"{key}"' for key, _ in needles)
    question = f"What are the values of the keys {keys}? {REPLY_MANY.format(order='of the keys')}"
    made = _asked(LOOK_UP, question, [value for _, value in needles], {"needles": len(needles), "placement": placement, "depths": depths})
    return among_pairs(task, order, made, [(d, _pair(*n)) for d, n in zip(depths, needles, strict=True)], UUIDS)


def conditional(order: Order) -> Sample:
    """The values of all keys that have a mark in them; how many there are is not said."""
    task = f"{SUITE_NAME}.conditional"
    rng = rng_of(task, order)
    needles = [(_marked(rng), a_uuid(rng)) for _ in range(number(order, "needles", 1, 5))]
    placement = choice(order, "placement", PLACEMENTS)
    depths = sorted(_depths(rng, len(needles), placement))
    question = f'What are the values of all keys that contain the character "{MARK}"? {REPLY_MANY.format(order="of the object")}'
    facts = {"needles": len(needles), "placement": placement, "depths": depths}
    made = _asked(LOOK_UP, question, [value for _, value in needles], facts, "needle_threading_set")
    return among_pairs(task, order, made, [(d, _pair(*n)) for d, n in zip(depths, needles, strict=True)], UUIDS)


def threads(order: Order) -> Sample:
    """One thread, to its end."""
    return _followed(f"{SUITE_NAME}.threads", order, 1)


def multi_threads(order: Order) -> Sample:
    """Several threads at once, each to its end."""
    return _followed(f"{SUITE_NAME}.multi_threads", order, number(order, "threads", 1, 3))


def _followed(task: str, order: Order, count: int) -> Sample:
    rng = rng_of(task, order)
    length, direction = number(order, "length", 2, 4), choice(order, "direction", DIRECTIONS)
    lines = [[a_uuid(rng) for _ in range(length + 1)] for _ in range(count)]
    placed = [pair for line in lines for pair in _laid(rng, line, direction)]
    starts = ", ".join(f'"{line[0]}"' for line in lines)
    if count == 1:
        question = f"Follow the thread that starts at the key {starts}. What is its last value? {REPLY_ONE}"
    else:
        question = (
            f"Follow the threads that start at the keys {starts}. What are their last values? {REPLY_MANY.format(order='of the keys')}"
        )
    facts = {"threads": count, "thread_length": length, "direction": direction}
    return among_pairs(task, order, _asked(FOLLOW, question, [line[-1] for line in lines], facts), placed, UUIDS)


def branched(order: Order) -> Sample:
    """A thread with dead ends: a key may stand in the object several times, with different values; only one of them leads on."""
    task = f"{SUITE_NAME}.branched"
    rng = rng_of(task, order)
    length, branches = number(order, "length", 2, 4), number(order, "branches", 2, 2)
    direction = choice(order, "direction", DIRECTIONS)
    line = [a_uuid(rng) for _ in range(length + 1)]
    placed = _laid(rng, line, direction)
    # at the last key there is no telling which value is the end, so that it has only one
    dead = [_pair(key, a_uuid(rng)) for key in line[: length - 1] for _ in range(branches - 1)]
    placed += [(round(rng.random(), 4), text) for text in dead]
    question = (
        f'Follow the thread that starts at the key "{line[0]}". A key may stand there several times, with different values: the thread '
        f"branches there, and the branches differ in length. What is the last value of the longest branch? {REPLY_ONE}"
    )
    facts = {"threads": 1, "thread_length": length, "branches": branches, "direction": direction}
    return among_pairs(task, order, _asked(FOLLOW, question, [line[-1]], facts), placed, UUIDS)


def _asked(instruction: str, question: str, gold: Sequence[str], facts: dict[str, object], scorer: str = "needle_threading_list") -> Sample:
    return Sample(
        id="",
        documents=(),
        instruction=instruction + "\n",
        question="\n" + question,
        gold=tuple(gold),
        scorer=scorer,
        max_new_tokens=64 * len(gold) + 64,
        metadata=facts,
    )


def _pair(key: str, value: str) -> str:
    return f'"{key}": "{value}"'


def _marked(rng: random.Random) -> str:
    """A key one of whose letters or digits is the mark."""
    key = a_uuid(rng)
    at = rng.choice([i for i, character in enumerate(key) if character != "-"])
    return key[:at] + MARK + key[at + 1 :]


def _depths(rng: random.Random, count: int, placement: str) -> list[float]:
    if placement == "random":
        return [round(rng.random(), 4) for _ in range(count)]
    start = rng.random() * (1 - CLUSTER)
    return [round(start + CLUSTER * rng.random(), 4) for _ in range(count)]


def _laid(rng: random.Random, line: Sequence[str], direction: str) -> list[tuple[float, str]]:
    """The pairs of a thread with their depths: along the object, against it, or anyhow."""
    depths = sorted(round(rng.random(), 4) for _ in line[1:])
    if direction == "backward":
        depths.reverse()
    elif direction == "random":
        rng.shuffle(depths)
    pairs = [_pair(key, value) for key, value in itertools.pairwise(line)]
    laid = list(zip(depths, pairs, strict=True))
    # those of one place keep their order: the object is read from the front
    return laid[::-1] if direction == "backward" else laid
