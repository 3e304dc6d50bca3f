"""Several replies that grow together, each read by somebody else: what a server asks of a model.

`generate_many` gives whole replies that were asked for alike. Here every row has a sampling of its own, its text comes piece by piece,
and a row that nobody waits for any more is dropped without disturbing its neighbours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from baywindow.models.base import Completion, Message, Prompt, Sampling, Stream

if TYPE_CHECKING:
    from baywindow.models.base import LanguageModel
    from baywindow.models.prefixes import Prefix


class Together(ABC):
    """Iterate: every step gives one text a row, empty where there is none. The iteration ends when every row is done.

    Between two steps further rows may join, where there is room; they are numbered on."""

    @abstractmethod
    def __iter__(self) -> Iterator[list[str]]:
        """Each step's texts, in the order of the rows; `ScoredText` where scores were asked for and are known by then."""

    def room(self, prompt_tokens: int, new_tokens: int) -> int:
        """How many rows of at most this size may join now; 0 where a batch stays as it began."""
        return 0

    def join(self, prompts: Sequence[Prompt | str], samplings: Sequence[Sampling], prefix: Prefix | None = None) -> None:
        """More rows, as in `LanguageModel.together`. What that raises is raised here, and then none of them joins."""
        raise NotImplementedError("there is no room")

    @abstractmethod
    def drop(self, row: int) -> None:
        """Nobody waits for this row any more: it says nothing from now on, and holds up nobody."""

    @abstractmethod
    def done(self, row: int) -> bool:
        """Whether the row has said all it will say."""

    @abstractmethod
    def completion(self, row: int) -> Completion:
        """What a row gave and used; for a row that is done."""


class Interleaved(Together):
    """One `Stream` a row, a piece of each in turn."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._done = [False] * len(streams)

    @classmethod
    def of(cls, model: LanguageModel, prompts: Sequence[Prompt | str], samplings: Sequence[Sampling]) -> Self:
        """Calls to a model without batches of its own. A plain text is asked as a user's message."""
        asked = [(Message("user", p),) if isinstance(p, str) else p for p in prompts]
        return cls([model.generate(prompt, sampling) for prompt, sampling in zip(asked, samplings, strict=True)])

    def __iter__(self) -> Iterator[list[str]]:
        readers = [iter(stream) for stream in self._streams]
        while not all(self._done):
            yield ["" if self._done[row] else self._next(row, reader) for row, reader in enumerate(readers)]

    def _next(self, row: int, reader: Iterator[str]) -> str:
        piece = next(reader, None)
        self._done[row] = piece is None
        return piece or ""

    def drop(self, row: int) -> None:
        self._done[row] = True
        self._streams[row].close()

    def done(self, row: int) -> bool:
        return self._done[row]

    def completion(self, row: int) -> Completion:
        return self._streams[row].completion
