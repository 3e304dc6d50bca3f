"""The six tasks on a JSON object of ten-digit keys and small numbers."""

from __future__ import annotations

import random
from collections.abc import Callable

from baywindow.bench.base import Order, Sample
from baywindow.bench.sized import rng_of
from baywindow.bench.tasks._pairs import Others, among_pairs
from baywindow.errors import ConfigError

SUITE_NAME = "hyper_multi_step"
DIGITS = 10
VALUES = range(100)
INTRODUCTION = "Below are the key-value pairs of a JSON object.\n"
STYLES = {
    "direct": "",
    "step_by_step": " Think step by step before you answer.",
    "one_by_one": " Go through the pairs one by one, say of each whether it is meant, and then answer.",
}


def option(order: Order, name: str, allowed: range, default: int) -> int:
    """A whole number of a range; ConfigError outside it."""
    value = order.options.get(name, default)
    if not isinstance(value, int) or value not in allowed:
        raise ConfigError.bad_value(name, value, f"a whole number from {allowed[0]} to {allowed[-1]}")
    return value


def style(order: Order) -> str:
    """What the option ``style`` adds to the question."""
    name = str(order.options.get("style", "direct"))
    if name not in STYLES:
        raise ConfigError.bad_value("style", name, " or ".join(STYLES))
    return STYLES[name]


def a_key(rng: random.Random) -> str:
    """Ten digits, the first not 0: as a number it has as many digits as in writing."""
    return str(rng.randrange(10 ** (DIGITS - 1), 10**DIGITS))


def pair(key: str, value: int) -> str:
    return f'"{key}": {value}'


def any_pair(rng: random.Random) -> str:
    return pair(a_key(rng), rng.choice(VALUES))


def _others(*, without: Callable[[int], bool]) -> Others:
    """Pairs whose value is none of those asked for."""
    allowed = [value for value in VALUES if not without(value)]
    return Others(lambda rng: pair(a_key(rng), rng.choice(allowed)), any_pair)


def key_to_value(order: Order) -> Sample:
    """The value of a key."""
    task = f"{SUITE_NAME}.simple_k2v"
    rng = rng_of(task, order)
    key, value, depth = a_key(rng), rng.choice(VALUES), _depth(order, rng)
    question = f'What is the value of the key "{key}"?{style(order)} Give the answer as "value: NUMBER".'
    made = _asked(question, (str(value),), "hyper_multi_step_value", {"depth": depth})
    return among_pairs(task, order, made, [(depth, pair(key, value))], _others(without=lambda v: False))


def value_to_key(order: Order) -> Sample:
    """The one key that has a value."""
    task = f"{SUITE_NAME}.simple_v2k"
    rng = rng_of(task, order)
    key, value, depth = a_key(rng), rng.choice(VALUES), _depth(order, rng)
    question = f'Which key has the value {value}? There is only one.{style(order)} Give the answer as "key: KEY".'
    made = _asked(question, (key,), "hyper_multi_step_key", {"depth": depth})
    return among_pairs(task, order, made, [(depth, pair(key, value))], _others(without=lambda v: v == value))


def logic(order: Order) -> Sample:
    """The one key whose value lies strictly between two numbers."""
    task = f"{SUITE_NAME}.logic"
    rng = rng_of(task, order)
    low = rng.randrange(0, VALUES[-1] - 10)
    high = low + rng.randint(2, 10)
    key, value, depth = a_key(rng), rng.randrange(low + 1, high), _depth(order, rng)
    question = (
        f"Which key has a value, a whole number, greater than {low} and smaller than {high}? There is only one.{style(order)} "
        'Give the answer as "key: KEY".'
    )
    made = _asked(question, (key,), "hyper_multi_step_key", {"depth": depth, "range": [low, high]})
    return among_pairs(task, order, made, [(depth, pair(key, value))], _others(without=lambda v: low < v < high))


def multi_match(order: Order) -> Sample:
    """All keys that have a value."""
    task = f"{SUITE_NAME}.multi_match"
    keys, value, depths = _matching(task, order)
    question = (
        f"Which keys have the value {value}?{style(order)} Give all of them in the order in which they stand there, with commas between "
        'them, as "keys: KEY, KEY".'
    )
    made = _asked(question, tuple(keys), "hyper_multi_step_keys", {"matches": len(keys), "depths": depths})
    placed = [(d, pair(key, value)) for d, key in zip(depths, keys, strict=True)]
    return among_pairs(task, order, made, placed, _others(without=lambda v: v == value))


def multi_match_last(order: Order) -> Sample:
    """The last of the keys that have a value, all others given."""
    task = f"{SUITE_NAME}.multi_match_last"
    keys, value, depths = _matching(task, order)
    given = ", ".join(f'"{key}"' for key in keys[:-1])
    question = (
        f"These keys have the value {value}: {given}. One more key has it, after all of these. Which?{style(order)} "
        'Give the answer as "key: KEY".'
    )
    made = _asked(question, (keys[-1],), "hyper_multi_step_key", {"matches": len(keys), "depths": depths})
    placed = [(d, pair(key, value)) for d, key in zip(depths, keys, strict=True)]
    return among_pairs(task, order, made, placed, _others(without=lambda v: v == value))


def multi_step(order: Order) -> Sample:
    """A key whose first digits are the values of other keys, and its value."""
    task = f"{SUITE_NAME}.multi_step"
    rng = rng_of(task, order)
    steps = option(order, "steps", range(1, DIGITS - 1), 3)
    # the first digit is not 0, see a_key
    digits = [rng.randint(1, 9), *(rng.randint(0, 9) for _ in range(steps - 1))]
    keys = [a_key(rng) for _ in digits]
    rest = "".join(str(rng.randint(0, 9)) for _ in range(DIGITS - steps))
    last, value = "".join(map(str, digits)) + rest, rng.choice(VALUES)
    listed = ", ".join(f'"{key}"' for key in keys)
    question = (
        f'Look up the values of the keys {listed} and write them one after the other; then append "{rest}". The result is itself a key. '
        f'What is its value?{style(order)} Give the answer as "key: KEY value: NUMBER".'
    )
    made = _asked(question, (last, str(value)), "hyper_multi_step_key_value", {"steps": steps})
    pairs = [pair(key, digit) for key, digit in zip(keys, digits, strict=True)] + [pair(last, value)]
    return among_pairs(task, order, made, [(round(rng.random(), 4), text) for text in pairs], _others(without=lambda v: False))


def _matching(task: str, order: Order) -> tuple[list[str], int, list[float]]:
    """Different keys in the order of their depths, and the value they share."""
    rng = rng_of(task, order)
    count = option(order, "matches", range(2 if task.endswith("last") else 1, 101), 3)
    keys: list[str] = []
    while len(keys) < count:
        keys += [key for key in [a_key(rng)] if key not in keys]
    return keys, rng.choice(VALUES), sorted(round(rng.random(), 4) for _ in keys)


def _depth(order: Order, rng: random.Random) -> float:
    return order.depth if order.depth is not None else round(rng.random(), 4)


def _asked(question: str, gold: tuple[str, ...], scorer: str, facts: dict[str, object]) -> Sample:
    return Sample(
        id="",
        documents=(),
        instruction=INTRODUCTION,
        question="\n" + question,
        gold=gold,
        scorer=scorer,
        max_new_tokens=24 * len(gold) + 512,
        metadata=facts,
    )
