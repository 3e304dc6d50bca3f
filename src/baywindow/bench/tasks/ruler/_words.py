"""Words, numbers and identifiers that needles are made of. The words are those of the package ``wonderwords``, as in the official code."""

from __future__ import annotations

import functools
import random
import uuid
from collections.abc import Callable

from baywindow.errors import MissingExtraError


@functools.cache
def word_list(kind: str) -> tuple[str, ...]:
    """``noun``, ``adjective`` or ``verb``; MissingExtraError without the extra ``bench``."""
    try:
        from wonderwords import RandomWord
    except ImportError as error:
        raise MissingExtraError.of("the word list of RULER (wonderwords)", "bench") from error
    return tuple(sorted(set(RandomWord().filter(include_categories=[kind]))))


@functools.cache
def all_words() -> tuple[str, ...]:
    return tuple(sorted({*word_list("noun"), *word_list("adjective"), *word_list("verb")}))


def a_word(rng: random.Random) -> str:
    """An adjective and a noun. Drawn as a pair: the list of all six million pairs, which the official code sorts, says the same."""
    return f"{rng.choice(word_list('adjective'))}-{rng.choice(word_list('noun'))}"


def a_number(rng: random.Random) -> str:
    """Seven digits."""
    return str(rng.randint(10**6, 10**7 - 1))


def a_uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


KINDS: dict[str, Callable[[random.Random], str]] = {"words": a_word, "numbers": a_number, "uuids": a_uuid}
