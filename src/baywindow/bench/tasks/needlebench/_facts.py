"""Single facts to hide, each with its own question and keyword. The official ones are in a data set; these are invented."""

from __future__ import annotations

import random
from dataclasses import dataclass

from baywindow.bench.tasks.needlebench._people import FAMILY

THINGS = (
    "glacier survey", "harbour light", "silk ledger", "copper orchestra", "night ferry", "rooftop orchard", "winter market", "paper bridge",
    "salt archive", "moss garden", "tidal clock", "glass atlas", "lantern parade", "stone choir", "river census", "kite laboratory",
    "amber vault", "cloud registry", "honey exchange", "marble press", "fog academy", "seed library", "bell foundry", "dune railway",
)  # fmt: skip
SIGNS = (
    "velvet", "cobalt", "juniper", "saffron", "obsidian", "lavender", "maple", "crimson", "ivory", "turquoise", "hazel", "indigo", "pewter",
    "scarlet", "willow", "onyx", "apricot", "sable", "emerald", "russet", "teal", "umber", "coral", "magenta",
)  # fmt: skip
BEASTS = (
    "falcon", "otter", "heron", "badger", "lynx", "marlin", "osprey", "beaver", "condor", "gecko", "ibis", "jackal", "koala", "lemur",
    "moose", "newt", "ocelot", "puffin", "quail", "raven", "stoat", "tapir", "vole", "walrus",
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """A sentence, the question it answers, how the answer is to begin, and the keyword that a right answer contains."""

    sentence: str
    question: str
    form: str
    keyword: str


def facts(count: int, rng: random.Random) -> list[Fact]:
    """Facts about different things with different keywords; at most 24."""
    subjects, signs, beasts = rng.sample(THINGS, count), rng.sample(SIGNS, count), rng.sample(BEASTS, count)
    made = []
    for thing, sign, beast in zip(subjects, signs, beasts, strict=True):
        town, keyword = rng.choice(FAMILY), f"{sign} {beast}"
        made.append(
            Fact(
                sentence=f"The secret emblem of the {thing} of {town} is the {keyword}.",
                question=f"What is the secret emblem of the {thing} of {town}?",
                form=f"The secret emblem of the {thing} of {town} is the ______.",
                keyword=keyword,
            )
        )
    return made
