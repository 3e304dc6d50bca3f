"""tom_tracking: who believes an object to be where, step by step through a story."""

from __future__ import annotations

import random
import re
import string
from dataclasses import dataclass, field

from baywindow.bench.base import Order, Sample, Turn, metric
from baywindow.bench.sized import rng_of
from baywindow.bench.tasks.longproc._shared import Problem, in_prose, level_of, right_beginning

NAME = "longproc.tom_tracking"
RULES = """A story tells where people and things are. Follow one person and one thing through it. At every step write on one line, begun \
with a hyphen: where the person is, where the thing is, whether the person sees it, and where the person believes it to be.
- A person sees a thing when both are in the same room; what is seen is believed.
- A person who does not see the thing goes on believing what was believed before; at first, that is None.
- A person who has left a room and entered none is nowhere: None.
- End with a line `Final Answer:` and the place that the person believes in.

Example.
{example}

The text that follows holds one such story in <problem> tags; the rest of it is of no importance."""
QUESTION = "Follow the story in the <problem> tags of the text and answer its question in the form of the example."
PEOPLE = ("Ruth", "Igor", "Mei", "Paolo", "Hana", "Otto")
THINGS = ("key", "ruler", "torch", "whistle", "magnet", "thimble")
ROOMS = ("attic", "cellar", "study", "kitchen", "garage", "hall")
PLACES = ("shelf", "chest", "table", "stool", "desk", "bench")


def tom_tracking(order: Order) -> Sample:
    """Steps until the trace has the level's length. The problem stands at a depth of the haystack."""
    level, target, most = level_of(order)
    rng = rng_of(NAME, order)
    small = Story(random.Random(17))
    small.go_on(4)
    story = Story(rng)
    story.go_on(1)
    while sum(order.counter("\n" + line) for line in story.trace) < 0.93 * target:
        story.go_on(1)
    problem = Problem(
        text=f"{story.told}\n{story.asked}",
        rules=RULES.format(example=f"{small.told}\n{small.asked}\n{small.answer}"),
        question=QUESTION,
        gold=story.answer,
        scorer="longproc_beliefs",
        facts={"level": level, "steps": len(story.lines) - 1, "gold_tokens": order.counter(story.answer)},
    )
    return in_prose(NAME, order, problem, most)


@dataclass
class Story:
    """Two people, two things and two rooms with two places each; what happens is drawn, and the trace is kept by the rules."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = self.rng
        people, things, rooms, places = rng.sample(PEOPLE, 2), rng.sample(THINGS, 2), rng.sample(ROOMS, 2), rng.sample(PLACES, 2)
        self.rooms, self.places = rooms, places
        self.at: dict[str, str | None] = {person: rng.choice(rooms) for person in people}
        self.on = {thing: (rng.choice(rooms), rng.choice(places)) for thing in things}
        self.person, self.thing = people[0], things[0]
        self.belief = "None"
        where = [f"{p} is in the {room}" for p, room in self.at.items()]
        where += [f"the {t} is on the {room}'s {place}" for t, (room, place) in self.on.items()]
        self._tell("; ".join(where) + ".")

    @property
    def told(self) -> str:
        return "\n".join(self.lines)

    @property
    def asked(self) -> str:
        return f"Where does {self.person} believe the {self.thing} is?"

    @property
    def answer(self) -> str:
        return "\n".join([f"{self.person} and the {self.thing}:", *self.trace, f"Final Answer: {self.belief}"])

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            person = self.rng.choice(sorted(self.at))
            self._tell(self._happens(person))

    def _happens(self, person: str) -> str:
        """One thing that can happen to a person where that person is; the world is changed accordingly."""
        rng, room = self.rng, self.at[person]
        if room is None:
            self.at[person] = rng.choice(self.rooms)
            return f"{person} enters the {self.at[person]}."
        near = [thing for thing, (there, _) in self.on.items() if there == room]
        kind = rng.choice(["goes", "goes", "leaves", *(["puts", "carries"] if near else [])])
        if kind == "leaves":
            self.at[person] = None
            return f"{person} leaves the {room}."
        other = next(r for r in self.rooms if r != room)
        if kind == "goes":
            self.at[person] = other
            return f"{person} goes to the {other}."
        thing = rng.choice(near)
        target = room if kind == "puts" else other
        place = rng.choice([p for p in self.places if (target, p) != self.on[thing]])
        self.on[thing], self.at[person] = (target, place), target
        if kind == "puts":
            return f"{person} puts the {thing} on the {room}'s {place}."
        return f"{person} goes to the {other} and puts the {thing} on the {other}'s {place}."

    def _tell(self, sentence: str) -> None:
        """Number the sentence, and add what is now true to the trace."""
        step = len(self.lines)
        self.lines.append(f"Step {step}: {sentence}")
        room, place = self.on[self.thing]
        sees = self.at[self.person] == room
        self.belief = f"{room}'s {place}" if sees else self.belief
        here = self.at[self.person] or "None"
        seen = f"{self.person} is in: {here}; {self.thing} is on: {room}'s {place}; sees it: {sees}; believes: {self.belief}"
        self.trace.append(f"- Step {step}: {seen}")


# What the published comparison leaves out, beside case and punctuation: words that say nothing of a place.
_FILLERS = re.compile(r"\b(a|an|the|on|in|at|step|thinks?|believes?|is|are|of|location|knows?|belief)\b")


def _beliefs(reply: str) -> list[str]:
    """The hyphened lines in normal form."""
    bare = str.maketrans("", "", string.punctuation + "’")
    lines = [line.strip()[1:] for line in reply.splitlines() if line.strip().startswith("-")]
    return [" ".join(_FILLERS.sub(" ", line.lower().translate(bare)).split()) for line in lines]


@metric
def longproc_beliefs(reply: str, turn: Turn) -> float:
    """1 if the trace is the gold one, line for line in normal form."""
    return float(_beliefs(reply) == _beliefs(turn.gold[0]))


@metric
def longproc_beliefs_partial(reply: str, turn: Turn) -> float:
    """Share of the trace that is right before its first wrong line."""
    return right_beginning(_beliefs(reply), _beliefs(turn.gold[0]))
