"""Feeding a long context: in chunks, without the language-model head, compressing once at the end or after every chunk."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baywindow.errors import BudgetError, ConfigError
from baywindow.window.base import State
from baywindow.window.caches.base import Feed, Piece
from baywindow.window.engine.cache import WindowCache
from baywindow.window.engine.memory import give_back

if TYPE_CHECKING:
    from baywindow.window.engine.runtime import Runtime

CHUNK_TOKENS = 1024


@torch.no_grad()
def prefill(
    runtime: Runtime,
    cache: WindowCache,
    ids: Tensor,
    *,
    mask: Tensor | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
    each_chunk: bool = False,
    close: bool = True,
    starts: tuple[int, ...] = (),
) -> WindowCache:
    """Put ``ids`` [B, n] (left-padded where ``mask`` [B, n] is 0) into the cache behind what it holds.

    Caches that drop tokens act once, on the whole context, so the result does not depend on ``chunk_tokens``; with ``each_chunk`` they
    act after every chunk, and memory grows with the budget instead of the length. ``close`` ends the prompt: later tokens are
    kept. Without it nothing is dropped yet, and the next call or prompt forward takes part in the choice. ``starts`` are the columns at
    which parts of the context begin, for techniques that read them apart.

    Raises ConfigError for an empty context or an impossible mask; BudgetError, naming a budget that would fit, if memory runs out.
    """
    if chunk_tokens < 1:
        raise ConfigError.bad_value("chunk_tokens", chunk_tokens, "at least 1")
    mask = torch.ones_like(ids) if mask is None else mask
    check_ids(ids, mask)
    device = runtime.model.get_input_embeddings().weight.device  # type: ignore[operator]
    ids, mask = ids.to(device), mask.to(device)
    before = cache.row_tokens if cache.row_tokens is not None else torch.zeros(ids.shape[0], dtype=torch.long)
    before = before.to(device)
    positions = before[:, None] + (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    if cache.question_tokens:
        cache.protect_from = before + mask.sum(dim=1) - cache.question_tokens
    cache.driven, cache.turn_from = True, before
    try:
        if runtime.parts.prefill is not None and cache.get_seq_length() == 0:
            feed_apart(runtime, cache, Piece(ids=ids, mask=mask, positions=positions), starts, chunk_tokens)
        else:
            _feed_chunks(runtime, cache, (ids, mask, positions), chunk_tokens, each_chunk, close)
        if close:
            runtime.finish(cache)
            cache.close()
            if runtime.parts.caches or runtime.parts.lays_apart:
                give_back()
        else:
            cache.mode = "hold"
    finally:
        cache.driven = False
    return cache


def feed_apart(runtime: Runtime, cache: WindowCache, whole: Piece, starts: tuple[int, ...], chunk_tokens: int) -> None:
    """Let the recipe's own prefill feed the context. Nothing is dropped meanwhile."""
    assert runtime.parts.prefill is not None
    part = runtime.parts.prefill
    cache.mode = "hold"

    def step(into: WindowCache, piece: Piece) -> None:
        for start in range(0, piece.ids.shape[1], chunk_tokens):
            cut = slice(start, start + chunk_tokens)
            forward(runtime, into, piece.ids[:, cut], piece.mask[:, cut], piece.positions[:, cut])

    def apart(pieces: Sequence[Piece]) -> None:
        forks = [copy.deepcopy(cache) for _ in pieces]
        for fork, piece in zip(forks, pieces, strict=True):
            fork.driven, fork.mode = True, "hold"
            step(fork, piece)
        cache.absorb(forks)

    def keep(states: State) -> None:
        for layer in runtime.info.full_layers:
            cache.store(layer.index).states.setdefault(part.card.name, {}).update({name: t.clone() for name, t in states.items()})

    part.feed(Feed(whole=whole, starts=starts, step=lambda piece: step(cache, piece), apart=apart, keep=keep))


def _feed_chunks(
    runtime: Runtime, cache: WindowCache, fed: tuple[Tensor, Tensor, Tensor], chunk_tokens: int, each_chunk: bool, close: bool
) -> None:
    n = fed[0].shape[1]
    for start in range(0, n, chunk_tokens):
        stop = min(n, start + chunk_tokens)
        cache.mode = "auto" if each_chunk or (close and stop == n) else "hold"
        ids, mask, positions = (t[:, start:stop] for t in fed)
        forward(runtime, cache, ids, mask, positions)


def forward(runtime: Runtime, cache: WindowCache, ids: Tensor, mask: Tensor, positions: Tensor) -> None:
    """One piece through the decoder. Running out of memory says which budget would have fitted."""
    past = mask.new_ones(mask.shape[0], cache.get_seq_length())  # padding of what is held is known to the stores
    try:
        runtime.found.decoder(
            input_ids=ids,
            attention_mask=torch.cat([past, mask], dim=1),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise out_of_memory(runtime, cache) from error
        raise


def out_of_memory(runtime: Runtime, cache: WindowCache) -> BudgetError:
    """What to say when memory ran out: how far it got, and a budget that would fit."""
    held = [int(h.max()) for h in cache.held() if h.dim() and h.numel()]
    most = max(held, default=0)
    fits = max(64, most // 2)
    return BudgetError(
        f"out of memory after {cache.get_seq_length()} tokens: {most} tokens a head were held ({cache.nbytes() / 2**20:.0f} MiB)",
        hint=f"a budget of about {fits} tokens a head would fit: e.g. snapkv(budget_tokens={fits}), compressing each chunk",
    )


def check_ids(ids: Tensor, mask: Tensor) -> None:
    """Raise ConfigError unless these are non-empty rows of one length, padded on the left."""
    if ids.dim() != 2 or ids.shape[1] == 0:
        raise ConfigError(f"token ids of shape {tuple(ids.shape)} cannot be fed", hint="ids are [batch, tokens], at least one token")
    if mask.shape != ids.shape:
        raise ConfigError(f"the mask has shape {tuple(mask.shape)}, the ids {tuple(ids.shape)}", hint="one mask value a token")
    if bool((mask.long().diff(dim=1) < 0).any()):
        raise ConfigError("a batch of unequal lengths must be padded on the left", hint="tokenizer.padding_side = 'left'")
    if bool((mask.sum(dim=1) == 0).any()):
        raise ConfigError("a row of the batch holds no token", hint="leave empty rows out")
