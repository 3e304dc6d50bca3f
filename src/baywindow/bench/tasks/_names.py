"""Made-up names: pronounceable, never seen in training, and as many as a sample of 128k tokens needs."""

from __future__ import annotations

import random

_ONSETS = ("b", "br", "c", "d", "dr", "f", "fl", "g", "gr", "h", "k", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "tr", "v", "w")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_CODAS = ("", "n", "r", "l", "s", "m", "nd", "th", "ck")


def word(rng: random.Random, syllables: int = 2) -> str:
    """A lower-case word that means nothing: ``stounvear``."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables))


class Fresh:
    """Draws words and never the same twice. Three million words of two syllables exist: enough for any sample."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._seen: set[str] = set()

    def word(self) -> str:
        while (made := word(self._rng)) in self._seen:
            pass
        self._seen.add(made)
        return made

    def name(self) -> str:
        """The same, written as a proper name."""
        return self.word().capitalize()
