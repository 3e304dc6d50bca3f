"""Synthetic text of the length-extension test-bed: notes, codes and filler, with questions whose answers stand in the text.

A small world over fewer than 512 words, so that a model of one million weights masters it within minutes:

    note moon:7 .             a key and its value, one word together
    code lamp Q M R T .       a key and four letters
    the river moves under …   filler: sentences whose next word depends on the word before the last
    ask moon moon:7 .         the pair again: only the earlier note tells the value (key-value retrieval)
    show lamp Q M R T .       the letters again (copying)

Every key occurs in one note or code of a text, so a question has one answer. All randomness comes from the generator passed in;
the word chain itself is fixed by `CHAIN_SEED`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_uppercase
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

Task = Literal["kv", "copy"]
Ids = NDArray[np.int64]

MARKS = ("<pad>", "<bos>", "<unk>", ".", "note", "ask", "code", "show")
KEY_TEXT = """
moon lamp fish coin rope bell boat drum leaf nail ring salt seed shoe soap star wheel wool apple arrow brush chair clock glove
"""
KEYS = tuple(KEY_TEXT.split())
VALUES = tuple(range(12))
PAIRS = tuple(f"{key}:{value}" for key in KEYS for value in VALUES)
LETTERS = tuple(ascii_uppercase[:20])
FILLER_TEXT = """
the a one this that every some old new small large quiet green cold early late river house road garden window table letter paper
stone tree cloud morning evening winter summer market street bridge corner field city village teacher farmer doctor painter child
mother father friend stranger captain writer moves stays opens closes brings takes holds leaves finds loses sees hears follows
carries turns builds breaks sells buys reads writes under over near behind beyond along across between without before after
during again slowly quickly often never always soon there here where when while because though and but or so with from to into
out of in on at by for about
"""
FILLER = tuple(FILLER_TEXT.split())
WORDS = (*MARKS, *KEYS, *PAIRS, *LETTERS, *FILLER)
ID = {word: i for i, word in enumerate(WORDS)}
BOS, STOP, NOTE, ASK, CODE, SHOW = (ID[w] for w in ("<bos>", ".", "note", "ask", "code", "show"))
KEY_IDS, PAIR_IDS, LETTER_IDS, FILLER_IDS = (np.array([ID[w] for w in ws]) for ws in (KEYS, PAIRS, LETTERS, FILLER))
CODE_LETTERS = 4
CHAIN_SEED = 20
NOTES = 12  # pairs among which one question chooses, whatever the length
FOLLOWERS = 6  # words that may follow a filler word


@dataclass(frozen=True)
class Question:
    """One test item. ``ids`` is the whole text, (length,), and ends with the answer, whose tokens start at ``start``.

    ``depth`` is where the asked note stands, from 0 (beginning) to 1 (just before the question).
    """

    ids: Ids
    start: int
    depth: float

    @property
    def answer(self) -> Ids:
        return self.ids[self.start :]


def tokenizer() -> Tokenizer:
    """Word-level: words parted by blanks, one symbol a word."""
    made = Tokenizer(models.WordLevel(ID, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.Fuse()
    made.add_special_tokens(["<pad>", "<bos>", "<unk>"])
    return made


def save_tokenizer(folder: Path) -> None:
    tokenizer().save(str(folder / "tokenizer.json"))


@cache
def _chain() -> Ids:
    """Which words may follow two places after each filler word, (filler word, FOLLOWERS), as ids."""
    rng = np.random.default_rng(CHAIN_SEED)
    return np.stack([rng.choice(FILLER_IDS, FOLLOWERS, replace=False) for _ in FILLER])


def sentence(rng: np.random.Generator) -> list[int]:
    """Four to ten filler words and a stop.

    From the third on, a word is drawn among the followers of the word *before the last*: to foretell it a model must look one
    token back, which is also the first half of finding what followed a key.
    """
    out = [int(i) for i in rng.choice(FILLER_IDS, 2)]
    for _ in range(int(rng.integers(2, 9))):
        # Early followers are likelier, so that filler has structure worth learning.
        step = min(int(rng.geometric(0.6)) - 1, FOLLOWERS - 1)
        out.append(int(_chain()[out[-2] - FILLER_IDS[0], step]))
    return [*out, STOP]


def note(rng: np.random.Generator, key: int) -> list[int]:
    return [NOTE, int(PAIR_IDS[(key - KEY_IDS[0]) * len(VALUES) + rng.integers(len(VALUES))]), STOP]


def code(rng: np.random.Generator, key: int) -> list[int]:
    return [CODE, key, *map(int, rng.choice(LETTER_IDS, CODE_LETTERS)), STOP]


def asked(fact: list[int]) -> list[int]:
    """The question about a fact, with its answer."""
    if fact[0] == NOTE:
        return [ASK, int(KEY_IDS[(fact[1] - PAIR_IDS[0]) // len(VALUES)]), *fact[1:]]
    return [SHOW, *fact[1:]]


OTHER, CHAINED, ANSWER = 0, 1, 2  # what a token of a training text is


def training_text(rng: np.random.Generator, length: int, rivals: int) -> tuple[Ids, Ids]:
    """One training text of exactly ``length`` tokens and the kind of each (`OTHER`, `CHAINED`, `ANSWER`), both ``(length,)``.

    A body of facts, filler and a few questions, then questions above all: the share of the body varies, so answers lie at every
    distance. Each fact is asked once, and at most ``rivals`` facts wait for their question at a time.
    """
    keys = rng.permutation(KEY_IDS).tolist()
    body = length * rng.uniform(0.2, 0.97)
    share = rng.uniform(0.1, 0.9)  # of facts among what is not a question
    ids, kinds, waiting = [BOS], [OTHER], list[list[int]]()
    while len(ids) < length:
        if waiting and (len(ids) >= body or rng.random() < 0.1):
            added = asked(waiting.pop(int(rng.integers(len(waiting)))))
            kind = ANSWER
        elif keys and len(waiting) < rivals and rng.random() < share:
            added = (note if rng.random() < 0.8 else code)(rng, keys.pop())
            waiting.append(added)
            kind = OTHER
        else:
            added, kind = sentence(rng), CHAINED
        ids += added
        kinds += [OTHER, OTHER, *[kind] * (len(added) - 3), OTHER][: len(added)]
    return np.array(ids[:length]), np.array(kinds[:length])


def question(rng: np.random.Generator, length: int, task: Task = "kv") -> Question:
    """A text of exactly ``length`` tokens: `NOTES` facts scattered in filler, then one question about one of them and its answer.

    Only the amount of filler grows with the length, so that what changes is distance, not the number of rivals.
    """
    make = note if task == "kv" else code
    facts = [make(rng, int(k)) for k in rng.choice(KEY_IDS, NOTES, replace=False)]
    chosen = int(rng.integers(NOTES))
    tail = asked(facts[chosen])[:-1]
    room = length - 1 - len(tail) - sum(map(len, facts))
    if room < 0:
        raise ValueError(f"length={length} is too short for {NOTES} facts")
    filler = list[list[int]]()
    while sum(map(len, filler)) < room:
        filler.append(sentence(rng))
    surplus = sum(map(len, filler)) - room
    filler[-1] = filler[-1][surplus:]
    # Facts go between sentences, in order, at places drawn uniformly.
    places = np.sort(rng.integers(0, len(filler) + 1, NOTES))
    ids, at = [BOS], 0
    for i in range(len(filler) + 1):
        for fact in (facts[j] for j in np.flatnonzero(places == i)):
            at = len(ids) if fact is facts[chosen] else at
            ids += fact
        ids += filler[i] if i < len(filler) else []
    ids += tail
    return Question(np.array(ids), start=length - len(tail) + 2, depth=at / length)
