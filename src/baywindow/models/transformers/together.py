"""A batch of replies, each with its own sampling and its own reader, over one left-padded cache that rows join and leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from baywindow.models.base import Completion, Prompt, Sampling
from baywindow.models.clock import Clock
from baywindow.models.prefixes import Prefix
from baywindow.models.together import Together
from baywindow.models.transformers import batching, joining, loop, prefixes
from baywindow.models.transformers.choosing import Chooser
from baywindow.models.transformers.reply import Reply
from baywindow.models.transformers.scores import AsSaid

if TYPE_CHECKING:
    from baywindow.models.transformers.model import TransformersModel

# Rows that one batch ever takes. What they said is kept until it ends, and whoever waits for it to end is served some time.
MOST_EVER = 256


@dataclass
class Row:
    """One prompt as token ids, and the reply that it grows into. ``reused``: tokens of it that were not read."""

    ids: list[int]
    reply: Reply
    clock: Clock
    chooser: Chooser
    scores: AsSaid | None
    text: str = ""
    reused: int = 0

    def waits(self) -> bool:
        return not self.reply.done and self.clock.running()

    def push(self, token: int) -> str:
        """Take the next token; returns the text that may be shown now."""
        if self.reply.done:
            return ""
        text = self.reply.push(token)
        return self._said(text if self.reply.done or self.clock.running() else text + self.reply.end("deadline"))

    def overdue(self) -> str:
        """What was held back of a reply that has no more time; nothing of any other."""
        return "" if self.reply.done or self.clock.running() else self._said(self.reply.end("deadline"))

    def _said(self, text: str) -> str:
        self.text += text
        return self.scores.piece(text) if text and self.scores is not None else text


@dataclass
class Coming:
    """Rows, by number, whose prompts are being read together."""

    numbers: list[int]
    reading: Generator[None, None, loop.Flight | None]


class Batch(Together):
    """Over a stock cache a row leaves when it is done, and others join. Over any other the batch stays as it began, and rows that are done
    are fed on beside the others until the last one is: such a cache need not be able to give up a row."""

    def __init__(self, model: TransformersModel) -> None:
        self._model = model
        self._rows: list[Row] = []
        self._coming: deque[Coming] = deque()
        self._flight: loop.Flight | None = None
        self._numbers: list[int] = []  # of the rows in flight, as they stand there
        self._tokens: list[int] = []  # their latest ones

    def join(self, prompts: Sequence[Prompt | str], samplings: Sequence[Sampling], prefix: Prefix | None = None) -> None:
        """``prefix``: what all of them begin with; it is read once, or not at all where a state of it was kept."""
        new = []
        for prompt, sampling in zip(prompts, samplings, strict=True):
            ids, reply = self._model.begun(prompt, sampling)
            chooser = self._model.chooser(sampling)
            new.append(Row(ids, reply, Clock(sampling.seconds), chooser, self._model.as_said(chooser)))
        border = self._model.border(prompts[0], new[0].ids, samplings[0]) if len(new) == 1 and prefix is None else 0
        numbers = list(range(len(self._rows), len(self._rows) + len(new)))
        self._rows += new
        self._coming.append(Coming(numbers, self._read(new, prefix, border)))

    def room(self, prompt_tokens: int, new_tokens: int) -> int:
        if self._flight is None or self._model.attached_to or len(self._rows) >= MOST_EVER or not loop.is_plain(self._flight.cache):
            return 0
        columns = self._flight.mask.shape[1]
        flying = [number for number in self._numbers if not self._rows[number].reply.done]
        coming = [number for group in self._coming for number in group.numbers]
        ends = [columns + self._rows[number].reply.remaining for number in flying]
        ends += [len(self._rows[number].ids) + self._rows[number].reply.remaining for number in coming]
        reach = max([columns, prompt_tokens + new_tokens, *ends])
        found = batching.room(len(flying) + len(coming), columns, reach, self._model.model)
        return min(found, MOST_EVER - len(self._rows))

    def __iter__(self) -> Iterator[list[str]]:
        while self._coming or self._flight is not None:
            texts = [""] * len(self._rows)
            self._go_on(texts)
            self._read_on(texts)
            self._choose(texts)
            if self._coming or self._flight is not None or any(texts):
                yield texts

    def _go_on(self, texts: list[str]) -> None:
        """A step of those in flight that are not done; without any, the flight is over."""
        if self._flight is None:
            return
        self._end_overdue(self._numbers, texts)
        staying = [at for at, number in enumerate(self._numbers) if not self._rows[number].reply.done]
        if not staying:
            self._flight, self._numbers = None, []
            return
        if len(staying) < len(self._numbers) and loop.is_plain(self._flight.cache):
            self._flight = joining.left(self._flight, staying)
            self._numbers, self._tokens = [self._numbers[at] for at in staying], [self._tokens[at] for at in staying]
        loop.advance(self._model.model, self._flight, self._tokens, self._model.lock)

    def _read_on(self, texts: list[str]) -> None:
        """A piece of the prompts that came first; once they are read, their rows join."""
        if not self._coming:
            return
        try:
            next(self._coming[0].reading)
        except StopIteration as ended:
            numbers = self._coming.popleft().numbers
            if ended.value is None:
                self._end_overdue(numbers, texts)
                return
            self._flight = ended.value if self._flight is None else joining.joined(self._flight, ended.value)
            self._numbers = self._numbers + numbers

    def _choose(self, texts: list[str]) -> None:
        if self._flight is None:
            return
        logits = self._flight.logits[:, -1].float()
        self._tokens = [self._rows[number].chooser(logits[at : at + 1])[0] for at, number in enumerate(self._numbers)]
        for number, token in zip(self._numbers, self._tokens, strict=True):
            texts[number] = self._rows[number].push(token) or texts[number]  # not added up: a piece may bring its scores

    def _end_overdue(self, numbers: Sequence[int], texts: list[str]) -> None:
        for number in numbers:
            texts[number] = self._rows[number].overdue() or texts[number]

    def _read(self, rows: Sequence[Row], prefix: Prefix | None, border: int) -> Generator[None, None, loop.Flight | None]:
        def alive() -> bool:
            return any(row.waits() for row in rows)

        cache, shared = None, 0
        if prefix is not None:
            cache, reused = yield from prefixes.read(self._model, prefix, len(rows), alive)
            shared = len(prefix.ids)
            for row in rows:
                row.reused = reused
        pad = self._model.tokenizer.pad_token_id
        feed = loop.Feed(
            rows=[row.ids[shared:] for row in rows],
            cache=self._model.new_cache() if cache is None else cache,
            alive=alive,
            pad=0 if pad is None else int(pad),
            border=border,
            phase=self._model.cache_phase,
        )
        return (yield from loop.prefill(self._model.model, feed, self._model.lock))

    def drop(self, row: int) -> None:
        self._rows[row].reply.done = True  # its finish stays `cancelled`

    def done(self, row: int) -> bool:
        return self._rows[row].reply.done

    def completion(self, row: int) -> Completion:
        of = self._rows[row]
        return replace(self._model.scored(of.reply.completion(of.text), of.chooser), cached_tokens=of.reused)
