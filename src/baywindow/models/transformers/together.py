"""A batch of replies, each with its own sampling and its own reader, over one left-padded cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from baywindow.models.base import Completion, Sampling
from baywindow.models.clock import Clock
from baywindow.models.prefixes import Prefix
from baywindow.models.together import Together
from baywindow.models.transformers import loop, prefixes
from baywindow.models.transformers.reply import Reply

if TYPE_CHECKING:
    from baywindow.models.transformers.model import TransformersModel


@dataclass(frozen=True)
class Row:
    """One prompt as token ids, how it is answered, and the reply that it grows into."""

    ids: list[int]
    sampling: Sampling
    reply: Reply


class Batch(Together):
    """Rows that are done are fed on beside the others until the last one is: a cache that cannot give up a row need not.

    ``prefix``: what all rows begin with; it is read once, or not at all where a state of it was kept. ``border``: see `loop.Feed`.
    """

    def __init__(self, model: TransformersModel, rows: Sequence[Row], prefix: Prefix | None = None, border: int = 0) -> None:
        self._model = model
        self._rows = rows
        self._prefix, self._border = prefix, border
        self._reused = 0
        self._clocks = [Clock(row.sampling.seconds) for row in rows]
        self._choosers = [model.chooser(row.sampling) for row in rows]
        self._scores = [model.as_said(chooser) for chooser in self._choosers]
        self._texts = [""] * len(rows)

    def __iter__(self) -> Iterator[list[str]]:
        pad = self._model.tokenizer.pad_token_id
        if self._prefix is None:
            cache, shared = self._model.new_cache(), 0
        else:
            cache, self._reused = prefixes.read(self._model, self._prefix, len(self._rows), self._waiting)
            shared = len(self._prefix.ids)
        feed = loop.Feed(
            rows=[row.ids[shared:] for row in self._rows],
            choose=self._choose,
            cache=cache,
            alive=self._waiting,
            pad=0 if pad is None else int(pad),
            border=self._border,
            phase=self._model.cache_phase,
        )
        for tokens in loop.step_tokens(self._model.model, feed, self._model.lock):
            yield [self._said(i, self._push(i, token)) for i, token in enumerate(tokens)]
        # The loop also ends when every row that is left ran out of time, perhaps before its first token.
        if not all(row.reply.done for row in self._rows):
            yield [self._said(i, "" if row.reply.done else row.reply.end("deadline")) for i, row in enumerate(self._rows)]

    def _choose(self, logits: Tensor) -> list[int]:
        return [chooser(logits[i : i + 1])[0] for i, chooser in enumerate(self._choosers)]

    def _push(self, row: int, token: int) -> str:
        reply = self._rows[row].reply
        if reply.done:
            return ""
        text = reply.push(token)
        return text if reply.done or self._clocks[row].running() else text + reply.end("deadline")

    def _said(self, row: int, text: str) -> str:
        self._texts[row] += text
        scores = self._scores[row]
        return scores.piece(text) if text and scores is not None else text

    def _waiting(self) -> bool:
        return any(not row.reply.done and clock.running() for row, clock in zip(self._rows, self._clocks, strict=True))

    def drop(self, row: int) -> None:
        self._rows[row].reply.done = True  # its finish stays `cancelled`

    def done(self, row: int) -> bool:
        return self._rows[row].reply.done

    def completion(self, row: int) -> Completion:
        done = self._model.scored(self._rows[row].reply.completion(self._texts[row]), self._choosers[row])
        return replace(done, cached_tokens=self._reused)
