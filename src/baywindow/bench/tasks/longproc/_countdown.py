"""countdown: reach a number with four numbers and the four operations, by a search whose every branch is written down."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.sized import rng_of
from baywindow.bench.tasks.longproc._shared import Problem, in_prose, level_of, right_beginning, tagged

NAME = "longproc.countdown"
RULES = """Four numbers are to be combined with + - * / so that a target comes out; each number is used once. Search for the way in this \
order and write every step down:
- Take two of the numbers, pairs in the order in which they are listed, and try the larger + - * / the smaller, in this order.
- The result takes the place of the two, in front. Drop it if it is a fraction, a division by zero or above {most}.
- Go on with what is there until one number is left. Drop it if it is not the target; go back and try the next.
- When the target is reached, write the three equations in order between <Solution> and </Solution>.

Example.
{example}

The text that follows holds one such problem in <problem> tags; the rest of it is of no importance."""
QUESTION = "Solve the problem in the <problem> tags of the text. Write the whole search and the solution in the form of the example."
_MOST = 2000
_VALUES = range(1, 200)
_EXAMPLE = ((6, 9, 16, 18), 222)
_SHARE = (0.5, 0.93)  # of the level's length: between these the search ends


def countdown(order: Order) -> Sample:
    """The target is a number that the search reaches first after as many lines as the level asks for."""
    level, length, most = level_of(order)
    numbers, target = _drawn(rng_of(NAME, order), length, order)
    gold = solved(numbers, target)
    problem = Problem(
        text=_asked(numbers, target),
        rules=RULES.format(most=_MOST, example=_asked(*_EXAMPLE) + "\n" + solved(*_EXAMPLE)),
        question=QUESTION,
        gold=gold,
        scorer="longproc_countdown",
        facts={"level": level, "numbers": list(numbers), "target": target, "gold_tokens": order.counter(gold)},
    )
    return in_prose(NAME, order, problem, most)


def _asked(numbers: Sequence[int], target: int) -> str:
    return f"Numbers: {', '.join(map(str, numbers))}. Target: {target}."


def solved(numbers: Sequence[int], target: int) -> str:
    """The search up to the target, and the equations that reach it."""
    lines: list[str] = []
    for line, value, path in search(tuple(numbers), target):
        lines.append(line)
        if value == target:
            return "\n".join([*lines, "<Solution>", *path, "</Solution>"])
    return "\n".join(lines)


def search(numbers: tuple[int, ...], target: int, path: tuple[str, ...] = ()) -> Iterator[tuple[str, int | None, tuple[str, ...]]]:
    """The lines of the search, depth first; with a line that ends a branch its last number, and the equations that led there."""
    indent = "    " * len(path)
    for i, j in itertools.combinations(range(len(numbers)), 2):
        left = tuple(n for k, n in enumerate(numbers) if k not in (i, j))
        a, b = max(numbers[i], numbers[j]), min(numbers[i], numbers[j])
        if left:
            yield f"{indent}- Take {numbers[i]} and {numbers[j]}, left {', '.join(map(str, left))}.", None, path
        for sign in "+-*/":
            value = _result(a, b, sign)
            if value is None or value > _MOST:
                yield f"{indent}  - {a} {sign} {b}: drop.", None, path
                continue
            equation = f"{a} {sign} {b} = {value}"
            if left:
                now = (value, *left)
                yield f"{indent}  - {equation}. Numbers: {', '.join(map(str, now))}.", None, path
                yield from search(now, target, (*path, equation))
            else:
                yield f"{indent}  - {equation}: {'found.' if value == target else 'drop.'}", value, (*path, equation)


def _result(a: int, b: int, sign: str) -> int | None:
    """None for a fraction and for a division by zero."""
    if sign == "/":
        return a // b if b and a % b == 0 else None
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def _drawn(rng: random.Random, length: int, order: Order) -> tuple[tuple[int, ...], int]:
    """Numbers and a target whose search is as long as wanted: each number that the search comes upon for the first time is one."""
    low, high = (share * length for share in _SHARE)
    while True:
        numbers = tuple(rng.randint(1, 50) for _ in range(4))
        seen: set[int] = set()
        fitting: list[int] = []
        used = 0
        for line, value, _ in search(numbers, 0):
            used += order.counter("\n" + line)
            if used > high:
                break
            if value is not None and value not in seen:
                seen.add(value)
                fitting += [value] if used > low and value in _VALUES else []
        if fitting:
            return numbers, rng.choice(fitting)


def reaches(equations: str, numbers: Sequence[int], target: int) -> bool:
    """Whether three equations, each right and of numbers at hand, use all four numbers and end with the target."""
    at_hand = list(numbers)
    lines = [line for line in equations.splitlines() if line.strip()]
    for line in lines:
        parts = re.fullmatch(r"\s*(\d+)\s*([-+*/])\s*(\d+)\s*=\s*(\d+)\s*", line)
        if parts is None:
            return False
        a, b, value = int(parts[1]), int(parts[3]), int(parts[4])
        for number in (a, b):
            if number not in at_hand:
                return False
            at_hand.remove(number)
        if _result(a, b, parts[2]) != value:
            return False
        at_hand.append(value)
    return at_hand == [target] and len(lines) == len(numbers) - 1


@metric
def longproc_countdown(reply: str, turn: Turn) -> float:
    """1 if the solution between the tags is right, whether or not the search found the same one."""
    return float(reaches(tagged(reply, "Solution") or "", turn.metadata["numbers"], turn.metadata["target"]))


@metric
def longproc_countdown_partial(reply: str, turn: Turn) -> float:
    """1 for a right solution, else the share of the search that is right before its first wrong line."""
    said, gold = ([line.strip() for line in text.split("<Solution>")[0].strip().splitlines()] for text in (reply, turn.gold[0]))
    return longproc_countdown(reply, turn) or right_beginning(said, gold)
