"""A text read once and asked about many times, through several techniques: what the bench needs of a model's insides.

    with model.read(text) as reader, reader.through(parts) as reading:
        asked = reading.ask("What is …?", "The answer is")
        asked.score(" Paris"); asked.generate(sampling)

The text is compressed before any question is known. What acts after a text has been read works on copies of one reading of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

from baywindow.models.base import Sampling, Score, Stream
from baywindow.registry import Technique


class Asked(ABC):
    """One question put after a text that was read. Neither call changes what the other sees.

    ``tokens``: the question and all that stands around it; ``seconds``: what reading these took.
    """

    tokens: int
    seconds: float

    @abstractmethod
    def score(self, answer: str) -> Score:
        """Log-probability of each token of ``answer`` as the reply, in one forward."""

    @abstractmethod
    def generate(self, sampling: Sampling) -> Stream:
        """The reply. ContextLengthError if it does not fit the window."""


class Reading(ABC):
    """A text as one recipe holds it. ``tokens`` went in; ``seconds`` (of the clock) and ``cpu_seconds`` (of this process) are what reading
    and compressing them takes, also where the reading was shared (``shared``) and not repeated. ``nbytes`` are held of it; ``notes``
    are remarks for a person."""

    tokens: int
    seconds: float
    cpu_seconds: float
    nbytes: int
    shared: bool
    notes: tuple[str, ...]

    @abstractmethod
    def ask(self, question: str, begun: str = "") -> Asked:
        """Put a question after the text; ``begun`` is how the reply is made to begin."""


class Reader(ABC):
    """A text that is read once for all techniques that act afterwards, and again for each that acts while reading."""

    @abstractmethod
    def through(self, parts: Sequence[Technique]) -> AbstractContextManager[Reading]:
        """The text as a recipe's inside half holds it, no parts for the model as it is. One at a time."""
