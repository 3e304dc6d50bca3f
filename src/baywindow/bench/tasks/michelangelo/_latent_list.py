"""Latent List: a few operations change a list, many lines around them do not, and one view of the list is asked for."""

from __future__ import annotations

import random
import re

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import rng_of, sized
from baywindow.bench.tasks._whole import Whole
from baywindow.documents.base import Document
from baywindow.errors import ConfigError

NAME = "michelangelo.latent_list"
INSTRUCTION = "Here is a Python program. Follow what it does to the list `a`, then answer the question below it."
QUESTION = "Which output does `{view}` give when it is run after all of these lines? Reply with the output only."
VIEWS = ("print(a)", "print(len(a))", "print(sum(a))", "print(min(a))", "print(max(a))", "print(a[:3])")


def latent_list(order: Order) -> Sample:
    """``operations`` lines that change the list, spread evenly; every other line, or pair of lines, leaves it as it was."""
    count = order.options.get("operations", 5)
    if not isinstance(count, int) or count < 1:
        raise ConfigError.bad_value("operations", count, "a whole number from 1 on")
    rng = rng_of(NAME, order)
    state = [rng.randint(-99, 99) for _ in range(6)]
    lines = [f"a = {state}"]
    for _ in range(count):
        line, state = change(state, rng)
        lines.append(line)
    view = rng.choice(VIEWS)
    placed = [(i / len(lines), line) for i, line in enumerate(lines)]
    question = QUESTION.format(view=view)
    fillers = rng_of(NAME, order, "filler")
    units = Whole(lambda: filler(fillers), order.counter)
    overhead = sum(order.counter("\n" + part) for part in (INSTRUCTION, question, *lines))

    def build(room: int) -> Sample:
        text = "\n".join(insert_at(units.upto(room - overhead), placed))
        return Sample(
            id="",
            documents=(Document(text, "program.py"),),
            instruction=INSTRUCTION,
            question=question,
            gold=(seen(state, view),),
            scorer="michelangelo_view",
            max_new_tokens=128,
            metadata={"operations": count, "view": view},
        )

    return sized(NAME, order, build)


def change(state: list[int], rng: random.Random) -> tuple[str, list[int]]:
    """One line that truly changes the list, and the list after it."""
    while True:
        line, after = _operation(state, rng)
        if after != state and 3 <= len(after) <= 12:
            return line, after


def _operation(state: list[int], rng: random.Random) -> tuple[str, list[int]]:
    value, at = rng.randint(-99, 99), rng.randrange(len(state))
    match rng.choice(("append", "insert", "pop", "remove", "sort", "reverse")):
        case "append":
            return f"a.append({value})", [*state, value]
        case "insert":
            return f"a.insert({at}, {value})", [*state[:at], value, *state[at:]]
        case "pop":
            return f"a.pop({at})", state[:at] + state[at + 1 :]
        case "remove":
            first = state.index(state[at])
            return f"a.remove({state[at]})", state[:first] + state[first + 1 :]
        case "sort":
            return "a.sort()", sorted(state)
        case _:
            return "a.reverse()", state[::-1]


def filler(rng: random.Random) -> str:
    """Lines after which the list is as before: nothing happens, or what happens is undone at once."""
    value = rng.randint(-99, 99)
    return rng.choice(
        (
            'print("Nothing happens here.")',
            "a.reverse()\na.reverse()",
            f"a.append({value})\na.pop()",
            f"a.insert(0, {value})\na.pop(0)",
            f"b = a.copy()\nb.append({value})",
            f"a += [{value}, {value}]\ndel a[-2:]",
        )
    )


def seen(state: list[int], view: str) -> str:
    """What the view prints, for a list of known numbers."""
    shown: dict[str, object] = dict(zip(VIEWS, (state, len(state), sum(state), min(state), max(state), state[:3]), strict=True))
    return str(shown[view])


@metric
def michelangelo_view(reply: str, turn: Turn) -> float:
    """1 if the last list (or, where a number is asked for, the last number) in the reply is the gold one."""
    gold = turn.gold[0]
    found = re.findall(r"\[[-\d,\s]*\]" if gold.startswith("[") else r"-?\d+", reply)
    return float(bool(found) and _numbers(found[-1]) == _numbers(gold))


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"-?\d+", text)]
