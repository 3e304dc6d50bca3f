"""The two tasks on students' résumés: an average mark inside a range, and all who went to one university."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from baywindow.bench.base import Order, Sample
from baywindow.bench.counting import insert_at
from baywindow.bench.sized import Drawn, Lengths, rng_of, sized, whole
from baywindow.bench.tasks._invented import World
from baywindow.bench.tasks.hyper_multi_step._pairs import SUITE_NAME, option, style
from baywindow.documents.base import Document

INTRODUCTION = "Below are the résumés of some students.\n"
INTERESTS = (
    "archery", "astronomy", "baking", "birds", "chess", "choirs", "cycling", "drawing", "fencing", "film", "gardening", "history", "kites",
    "languages", "maps", "music", "photography", "poetry", "pottery", "radio", "robots", "rowing", "sailing", "theatre", "weaving",
)  # fmt: skip
AIMS = (
    "wants to turn {a} into a trade one day",
    "came to {a} by way of {b} and has never left it",
    "spends every free hour on {b}",
    "would like to teach {a} to children",
    "looks for a place where {a} and {b} meet",
    "writes a small paper on {b} every spring",
)
MARKS = range(100, 500)  # hundredths
SHARED = 8  # universities that other students share


def resume(world: World, name: str, university: str, mark: int) -> str:
    """One student in a paragraph."""
    a, b = world.rng.sample(INTERESTS, 2)
    aim = world.rng.choice(AIMS).format(a=a, b=b)
    return (
        f"{name}, {world.rng.randint(18, 28)} years old, has a degree from the University of {university} with an average mark of "
        f"{mark / 100:.2f}. {name} likes {a} and {b} and {aim}."
    )


def logic_resume(order: Order) -> Sample:
    """The one student whose mark lies in a range."""
    task = f"{SUITE_NAME}.logic_resume"
    world, rng = World(task, order), rng_of(task, order)
    low = rng.randrange(MARKS[0], MARKS[-1] - 90)
    high = low + rng.randint(9, 90)
    name, depth = world.new("{given} {stem}"), order.depth if order.depth is not None else round(rng.random(), 4)
    allowed = [mark for mark in MARKS if not low <= mark <= high]
    towns = [world.new("{stem}") for _ in range(SHARED)]
    gold = resume(world, name, rng.choice(towns), rng.randint(low, high))
    question = (
        f"\nWhich student has an average mark between {low / 100:.2f} and {high / 100:.2f}? There is only one.{style(order)} "
        'Give the answer as "name: NAME".'
    )
    made = (question, (name,), "hyper_multi_step_name", {"depth": depth, "range": [low / 100, high / 100]})

    def other() -> str:
        return resume(world, world.new("{given} {stem}"), world.rng.choice(towns), world.rng.choice(allowed))

    return _listed(task, order, made, [(depth, gold)], other)


def multi_match_resume(order: Order) -> Sample:
    """All students of one university."""
    task = f"{SUITE_NAME}.multi_match_resume"
    world, rng = World(task, order), rng_of(task, order)
    count = option(order, "matches", range(1, 101), 3)
    university, names = world.new("{stem}"), [world.new("{given} {stem}") for _ in range(count)]
    towns = [world.new("{stem}") for _ in range(SHARED)]
    depths = sorted(round(rng.random(), 4) for _ in names)
    placed = [(depth, resume(world, name, university, rng.choice(MARKS))) for depth, name in zip(depths, names, strict=True)]
    question = (
        f"\nWhich students have a degree from the University of {university}?{style(order)} Give all of them, with commas between them, "
        'as "names: NAME, NAME".'
    )
    made = (question, tuple(names), "hyper_multi_step_names", {"matches": count, "depths": depths})

    def other() -> str:
        return resume(world, world.new("{given} {stem}"), world.rng.choice(towns), world.rng.choice(MARKS))

    return _listed(task, order, made, placed, other)


Asked = tuple[str, tuple[str, ...], str, dict[str, object]]  # question, gold, scorer, metadata


def _listed(task: str, order: Order, asked: Asked, placed: list[tuple[float, str]], other: Callable[[], str]) -> Sample:
    """Résumés one a line, as many others as fit around the placed ones."""
    question, gold, scorer, facts = asked
    drawn: Drawn[str] = Drawn(other)
    lengths = Lengths(list(itertools.islice(drawn.endless(), 64)), order.counter, "\n")
    overhead = order.counter(INTRODUCTION) + order.counter(question) + sum(order.counter("\n" + text) for _, text in placed)

    def build(room: int) -> Sample:
        lines = insert_at(whole(drawn, room - overhead, lengths), placed)
        return Sample(
            id="",
            documents=(Document("\n".join(lines), "students.txt"),),
            instruction=INTRODUCTION,
            question=question,
            gold=gold,
            scorer=scorer,
            max_new_tokens=16 * len(gold) + 512,
            metadata={**facts, "students": len(lines)},
        )

    return sized(task, order, build)
