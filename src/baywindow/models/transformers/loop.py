"""The generation loop: prompts go in by chunks, tokens come out one step at a time.

Our own loop rather than ``model.generate``, so that a deadline, a closed stream or Ctrl-C is honoured between any two forwards, also
in the middle of a long prompt, and so that the window engine can hand in its own cache. Works on any causal model of transformers
that takes ``past_key_values``. Greedy decoding gives the tokens that ``model.generate`` gives.

Shapes: ids and masks are (row, token); rows of unequal length are padded on the left, which keeps the last token of all in one column.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from baywindow.models.prefixes import BLOCK_TOKENS

# Tokens of all rows in one forward: some seconds of work at most, so that a deadline is met to within that. On the CPU a block, so that
# a prompt whose beginning was kept is read on in the very pieces that it would be read in as a whole.
CHUNK_TOKENS = {"cpu": BLOCK_TOKENS, "mps": 1024, "cuda": 4096}

T = TypeVar("T")


class Choose(Protocol):
    """How the next token of every row is chosen: logits (row, vocabulary) to ids (row,)."""

    def __call__(self, logits: Tensor) -> list[int]: ...


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Prompts that are read together: ``rows`` of ids; ``alive`` is asked before every forward, and False ends the loop.

    ``cache`` may already hold a context, the same for all rows; then ``rows`` are what follows it. A piece of the prompt ends after
    ``border`` tokens of it. ``phase`` is told before each piece whether ``more`` follow or it is the ``last``, and when the prompt is
    ``done``: some caches act on a whole prompt.
    """

    rows: Sequence[Sequence[int]]
    cache: Any
    alive: Callable[[], bool]
    pad: int = 0
    border: int = 0
    phase: Callable[[Any, str], None] = lambda cache, phase: None


def new_cache(model: Any) -> Any:
    """The stock cache, with the layer types that this model's configuration names (sliding layers keep their window only)."""
    return DynamicCache(config=model.config)


def is_plain(cache: Any) -> bool:
    """Whether it holds keys and values of every layer and nothing else, so that rows and columns of it can be taken and added."""
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) and layer.is_initialized for layer in cache.layers)


@dataclass
class Flight:
    """Rows whose prompts are read: what the cache holds of them, ``mask`` (row, column) with 1 for the columns that are theirs, and
    the ``logits`` (row, 1, vocabulary) of their next token."""

    cache: Any
    mask: Tensor
    logits: Tensor


def step_tokens(model: Any, feed: Feed, choose: Choose, lock: AbstractContextManager[Any]) -> Iterator[list[int]]:
    """The next token of each row, step after step, until the consumer stops or ``feed.alive`` says no.

    ``lock`` is held during each forward, for techniques change a model in place for a moment.
    """
    flight = finished(prefill(model, feed, lock))
    while flight is not None and feed.alive():
        chosen = choose(flight.logits[:, -1].float())
        yield chosen
        if not feed.alive():
            return
        advance(model, flight, chosen, lock)


def prefill(model: Any, feed: Feed, lock: AbstractContextManager[Any]) -> Generator[None, None, Flight | None]:
    """Reads the prompts, a piece between two looks at the generator. Returns None where ``feed.alive`` said no."""
    ids, mask = left_padded(feed.rows, feed.pad, model.device)
    if past := int(feed.cache.get_seq_length()):
        mask = torch.cat([mask.new_ones(len(feed.rows), past), mask], dim=1)
    logits = None
    size = max(16, CHUNK_TOKENS.get(model.device.type, 512) // len(feed.rows))
    for start, end in [*pieces(0, feed.border, size), *pieces(feed.border, ids.shape[1], size)]:
        if not feed.alive():
            return None
        with lock:
            feed.phase(feed.cache, "last" if end == ids.shape[1] else "more")
            logits = forward(model, ids[:, start:end], mask[:, : past + end], feed.cache)
        if end < ids.shape[1]:
            yield
    feed.phase(feed.cache, "done")
    return None if logits is None else Flight(feed.cache, mask, logits)


def advance(model: Any, flight: Flight, tokens: Sequence[int], lock: AbstractContextManager[Any]) -> None:
    """A step of decoding: each row goes on by its token."""
    flight.mask = torch.cat([flight.mask, flight.mask.new_ones(len(tokens), 1)], dim=1)
    with lock:
        flight.logits = forward(model, torch.tensor(tokens, device=flight.mask.device)[:, None], flight.mask, flight.cache)


def finished(reading: Generator[None, None, T]) -> T:
    """Run it to its end, for what it returns."""
    while True:
        try:
            next(reading)
        except StopIteration as ended:
            found: T = ended.value
            return found


def pieces(start: int, end: int, size: int) -> list[tuple[int, int]]:
    """Borders of pieces of ``size`` tokens. The last one never has a single token, which would look like a step of decoding."""
    starts = list(range(start, end, size))
    if len(starts) > 1 and end - starts[-1] == 1:
        starts[-1] -= 1
    return list(zip(starts, [*starts[1:], end], strict=False))


@torch.inference_mode()
def forward(model: Any, ids: Tensor, mask: Tensor, cache: Any, keep: int = 1) -> Tensor:
    """Logits of the last ``keep`` positions, shape (row, keep, vocabulary); the cache grows by the given tokens."""
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    extra = {"logits_to_keep": keep} if _keeps_logits(type(model)) else {}
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, **extra)
    logits: Tensor = out.logits[:, -keep:]
    return logits


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask (1 for real tokens), both (row, longest row)."""
    longest = max(len(row) for row in rows)
    ids = [[pad] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _keeps_logits(kind: type) -> bool:
    found = _KEEPS.get(kind)
    if found is None:
        found = _KEEPS[kind] = "logits_to_keep" in inspect.signature(kind.forward).parameters  # type: ignore[attr-defined]
    return found


_KEEPS: dict[type, bool] = {}
