"""Exercises in arithmetic told in words, with their solution step by step."""

from __future__ import annotations

import random
from dataclasses import dataclass

_PEOPLE = ("Marta", "Jonas", "Aiko", "Pedro", "Lena", "Samir", "Ivy", "Olaf", "Nadia", "Tom")
_THINGS = ("marbles", "stamps", "pears", "books", "shells", "coins", "pencils", "tickets", "eggs", "cards")
_DAYS = ("On Monday", "The next day", "Two days later", "At the weekend", "A week later", "In the evening")


@dataclass(frozen=True)
class Exercise:
    question: str
    steps: str
    answer: int

    @property
    def solution(self) -> str:
        return f"{self.steps} The answer is {self.answer}."


def exercise(rng: random.Random) -> Exercise:
    """Two to six steps; no number is ever negative or a fraction."""
    person, things = rng.choice(_PEOPLE), rng.choice(_THINGS)
    number = rng.randint(4, 60)
    told, steps = [f"{person} has {number} {things}."], [f"{person} starts with {number}."]
    for _ in range(rng.randint(2, 6)):
        sentence, step, number = _step(number, rng)
        when = rng.choice(_DAYS)
        told.append(f"{when} {sentence.format(person=person, things=things)}")
        steps.append(step)
    told.append(f"How many {things} does {person} have now?")
    return Exercise(" ".join(told), " ".join(steps), number)


def _step(number: int, rng: random.Random) -> tuple[str, str, int]:
    """What happens, how it is calculated, and the number after it."""
    some = rng.randint(2, 30)
    choices = ["buy", "boxes"]
    choices += ["give"] if number > 3 else []
    choices += ["double"] if number < 200 else []
    choices += ["half"] if number % 2 == 0 and number > 2 else []
    match rng.choice(choices):
        case "give":
            less = rng.randint(1, number - 1)
            return f"{{person}} gives away {less} {{things}}.", f"{number} - {less} = {number - less}.", number - less
        case "double":
            return "a gift doubles what {person} has.", f"{number} * 2 = {number * 2}.", number * 2
        case "half":
            return "{person} loses half of all {things}.", f"{number} / 2 = {number // 2}.", number // 2
        case "boxes":
            boxes = rng.randint(2, 6)
            total = number + boxes * some
            return (
                f"{{person}} opens {boxes} boxes with {some} {{things}} in each.",
                f"{boxes} * {some} = {boxes * some} and {number} + {boxes * some} = {total}.",
                total,
            )
        case _:
            return f"{{person}} buys {some} {{things}}.", f"{number} + {some} = {number + some}.", number + some
