"""What a layer does once it has attended: let policies watch, choose what stays, and pack it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baywindow.window.block import Block
from baywindow.window.caches.base import Moment, Phase, Seen
from baywindow.window.engine.attending import Attending
from baywindow.window.engine.packing import lay_apart, pack
from baywindow.window.engine.store import Store

if TYPE_CHECKING:
    from baywindow.window.engine.layer import LayerRun


def settle(run: LayerRun, store: Store, attending: Attending | None, query: Tensor, q_pos: Tensor) -> None:
    """``attending`` is what the layer attended to, ``query`` [B, Hq, n, D] un-rotated at ``q_pos`` [B, n]."""
    cache = run.runtime.forward.cache
    if run.layer.is_sliding:
        store.trim()
        return
    if cache is None:
        return
    if not run.parts.caches:
        if cache.mode != "probe":
            lay_apart(run, store)
        return
    started = time.perf_counter()
    phase = run.phase(query.shape[2])
    visible = q_pos
    if phase == "prefill" and cache.protect_from is not None:
        visible = q_pos.masked_fill(q_pos >= cache.protect_from[:, None], -1)
    if cache.watcher is not None and attending is not None:
        cache.watcher(_seen(run, store, attending, query, visible, {}))
    if cache.mode != "probe":
        _watch(run, store, attending, query, visible, phase)
        if not lay_apart(run, store) and cache.mode != "hold":
            reduce(run, store, phase)
            if not _packed_later(run, phase):
                pack(run, store, phase)
    run.spent = time.perf_counter() - started
    cache.spend("caches", run.spent)


def _packed_later(run: LayerRun, phase: Phase) -> bool:
    """Whether packing waits for the end of the prompt. While the driver feeds and a reducer acts, the next piece may drop more, and
    packed groups would be opened and cut anew each time; and what acts on all layers at the end wants tokens as they are."""
    cache = run.runtime.forward.cache
    fed = cache is not None and cache.driven and run.parts.reducer is not None
    return fed or (phase == "prefill" and run.parts.at_end)


def _watch(run: LayerRun, store: Store, attending: Attending | None, query: Tensor, visible: Tensor, phase: Phase) -> None:
    idle = run.parts.prompt_only if phase == "decode" else frozenset()
    store.forget(idle)
    for part in run.parts.caches:
        if attending is not None and part.watches and part.card.name not in idle:
            state = store.states.setdefault(part.card.name, {})
            part.watch(_seen(run, store, attending, query, visible, state))
    cache = run.runtime.forward.cache
    window = run.parts.query_window
    if window and cache is not None and (phase == "prefill" or run.parts.votes_late):
        store.remember(query, visible, window + cache.question_tokens)


def _seen(run: LayerRun, store: Store, attending: Attending, query: Tensor, visible: Tensor, state: dict[str, Tensor]) -> Seen:
    return Seen(
        layer=run.layer,
        phase=run.phase(query.shape[2]),
        queries=query,
        q_pos=visible,
        block=attending.block,
        weights=attending.weights,
        state=state,
        tags=store.tail.tags if store.tail is not None else {},
    )


def reduce(run: LayerRun, store: Store, phase: Phase) -> None:
    """Let the reducer choose, if this is its phase."""
    reducer = run.parts.reducer
    cache = run.runtime.forward.cache
    if reducer is None or cache is None or phase not in reducer.when:
        return
    seen = cache.row_tokens if phase == "decode" else None
    if seen is not None and not store.segments and store.tail is not None and reducer.idle(len(store.tail), seen):
        return
    block = store.view()
    stayed = reducer.reduce(moment(run, store, phase), block, run.parts.allocator)
    if stayed is block:
        if phase == "prefill":
            cache.note(f"{reducer.card.name}: the budget was not below the prompt; nothing was dropped in some layer")
        return
    store.replace(stayed, dense="decode" in reducer.when or bool(stayed.tags))


def moment(run: LayerRun, store: Store, phase: Phase) -> Moment:
    cache = run.runtime.forward.cache
    assert cache is not None
    assert cache.row_tokens is not None
    part = run.parts.reducer
    queries, q_pos = last_valid(store, part.query_window() if part is not None else 0)
    seen, protect_from = cache.row_tokens, cache.protect_from if phase == "prefill" else None
    if protect_from is not None:  # positions count from 0 in every row, so this is how many tokens stand before the question
        seen = torch.minimum(seen, protect_from.clamp(min=0))
    return Moment(
        info=run.runtime.info,
        layer=run.layer,
        phase=phase,
        seen=seen,
        protect_from=protect_from,
        queries=queries,
        q_pos=q_pos,
        weights=lambda q, at, held: _weights_of(run, q, at, held),
        keys=run.angles.keys,
        turn=run.angles.mean_turn,
        state=store.states.setdefault(part.card.name, {}) if part is not None else {},
        shared=run.runtime.forward.memo.setdefault("shared", {}),
    )


def _weights_of(run: LayerRun, queries: Tensor, q_pos: Tensor, block: Block) -> Tensor:
    """Softmax weights of un-rotated queries over a block, with the recipe's angles and masks: float32 [B, Hq, w, L]."""
    q = queries
    if not run.raw and run.turner is not None:
        q = run.angles.queries_at(queries, q_pos)
    return run.attending(q, block, q_pos, queries).weights(0, queries.shape[2])


def last_valid(store: Store, window: int) -> tuple[Tensor, Tensor]:
    """The last ``window`` queries that are neither padding nor the question: [B, Hq, w, D] at [B, w] (−1 where a row has fewer)."""
    watched = store.watched
    if watched is None or window == 0:
        layer = store.layer
        device = store.tail.keys.device if store.tail is not None else torch.device("cpu")
        batch = max(store.batch_size, 0)
        return torch.zeros(batch, layer.q_heads, 0, layer.head_dim, device=device), torch.zeros(batch, 0, dtype=torch.long, device=device)
    held = watched.q_pos >= 0
    n = min(window, held.shape[1])
    order = torch.argsort(held, dim=1, stable=True)[:, -n:]  # holes first, then tokens in order
    at = order[:, None, :, None].expand(-1, watched.queries.shape[1], -1, watched.queries.shape[3])
    return watched.queries.gather(2, at), watched.q_pos.gather(1, order)
