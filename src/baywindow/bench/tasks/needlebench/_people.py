"""Invented people and how they are related: the material of the kinship tasks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

GIVEN = (
    "Aaron", "Abigail", "Adam", "Alice", "Amanda", "Andrea", "Anthony", "Audrey", "Barbara", "Benjamin", "Beth", "Brandon",
    "Brenda", "Brian", "Bruce", "Carla", "Carol", "Catherine", "Charles", "Chloe", "Craig", "Cynthia", "Daisy", "David",
    "Deborah", "Dennis", "Diana", "Dylan", "Edward", "Eileen", "Elaine", "Emily", "Eric", "Esther", "Eugene", "Fiona",
    "Frances", "Frank", "Gavin", "George", "Gloria", "Grace", "Gregory", "Hannah", "Harold", "Heather", "Helen", "Henry",
    "Howard", "Irene", "Isaac", "Ivan", "Jack", "Janet", "Jasper", "Joan", "Joel", "Judith", "Julia", "Keith", "Kelly",
    "Kevin", "Laura", "Leonard", "Lily", "Linda", "Logan", "Louis", "Lucy", "Marcus", "Maria", "Martin", "Megan", "Miles",
    "Nancy", "Nathan", "Nora", "Oliver", "Oscar", "Pamela", "Patrick", "Peggy", "Philip", "Rachel", "Ralph", "Rebecca",
    "Roger", "Rosa", "Ruth", "Samuel", "Sharon", "Simon", "Sophie", "Stephen", "Susan", "Terry", "Thomas", "Valerie",
    "Victor", "Wendy",
)  # fmt: skip
FAMILY = (
    "Abbott", "Archer", "Atkins", "Baldwin", "Barker", "Bennett", "Bishop", "Blake", "Bowen", "Brewer", "Burton", "Carver",
    "Chandler", "Clayton", "Coleman", "Cooper", "Dalton", "Dawson", "Dixon", "Drake", "Eaton", "Elliott", "Farmer",
    "Fisher", "Fleming", "Foster", "Garner", "Gibson", "Graham", "Griffin", "Hale", "Harper", "Hayes", "Holmes", "Hudson",
    "Ingram", "Jarvis", "Keller", "Knight", "Lambert", "Lawson", "Lowe", "Mason", "Mercer", "Morton", "Nash", "Norris",
    "Osborne", "Palmer", "Parker", "Pearce", "Porter", "Quinn", "Reeves", "Russell", "Sawyer", "Shelton", "Spencer",
    "Stanton", "Sutton", "Tanner", "Thorpe", "Tucker", "Turner", "Vaughn", "Wade", "Walker", "Warren", "Webster", "Wheeler",
)  # fmt: skip
# How many generations a word goes back.
GENERATIONS = {
    "father": 1,
    "mother": 1,
    "dad": 1,
    "mom": 1,
    "grandfather": 2,
    "grandmother": 2,
    "maternal grandfather": 2,
    "maternal grandmother": 2,
    "paternal grandfather": 2,
    "paternal grandmother": 2,
}
SENTENCES = (
    "{elder} is {younger}'s {word}.",
    "{younger}'s {word} is {elder}.",
    "{elder}, who is {younger}'s {word}, taught {younger} a great deal.",
    "{younger} often speaks of {elder}, the {word} who raised {younger}.",
    "To {younger}, {elder} is a {word} and a friend at once.",
    "As {younger}'s {word}, {elder} was always there for {younger}.",
)


def people(count: int, rng: random.Random) -> list[str]:
    """Different full names; a middle initial joins them when there are more people than pairs of names."""
    pairs = [f"{given} {family}" for given, family in itertools.product(GIVEN, FAMILY)]
    if count > len(pairs):
        pairs += [f"{given} {m}. {family}" for m in "ABCDEFGHJKLMNPRSTW" for given, family in itertools.product(GIVEN, FAMILY)]
    return rng.sample(pairs, count)


def kinship(names: Sequence[str], rng: random.Random) -> tuple[list[str], list[int]]:
    """One sentence for every two neighbours of a line from the eldest down, and how many generations apart each two are."""
    sentences, gaps = [], []
    for elder, younger in itertools.pairwise(names):
        word = rng.choice(tuple(GENERATIONS))
        sentences.append(rng.choice(SENTENCES).format(elder=elder, younger=younger, word=word))
        gaps.append(GENERATIONS[word])
    return sentences, gaps
