"""The engine's side of recall: ask for slots, gather them, and attend to nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baywindow.window.base import State, heads_of
from baywindow.window.block import Block
from baywindow.window.engine.apart import Apart
from baywindow.window.engine.by_head import attend_by_head
from baywindow.window.engine.masks import MaskSpec
from baywindow.window.engine.store import Store
from baywindow.window.recall import Held, Lookup, Phase, Recaller, marked_slots

if TYPE_CHECKING:
    from baywindow.window.engine.cache import WindowCache
    from baywindow.window.engine.layer import LayerRun
    from baywindow.window.engine.runtime import Runtime

LEARNED = "learned"  # in a state: the prompt was read
NO_QUERIES = MaskSpec(
    padding=None, mask_function=lambda b, h, q, k: k <= q, local_size=None, q_offset=0, q_length=0, may_skip=False, stock={}
)  # between forwards nothing attends


def recalled(run: LayerRun, q: Tensor, query: Tensor, q_pos: Tensor, block: Block) -> Tensor | None:
    """The layer's output [B, n, Hq, Dv] where the recipe's recaller acts on this forward, else None. ``q`` as `Attending` takes it,
    ``query`` un-rotated, ``block`` everything held."""
    recaller, store, cache = run.parts.recaller, run.store, run.runtime.forward.cache
    if recaller is None or store is None or cache is None or run.layer.is_sliding or cache.mode == "probe":
        return None
    n, phase = q.shape[2], run.phase(q.shape[2])
    shared = recaller.lookup_queries(phase, n)
    if shared < 1:
        return None
    past = block.length - n
    state = known(recaller, store)
    if phase == "decode" and LEARNED not in state:
        learn_prompt(run.runtime, cache, at=run.layer.index, new=n)
    if run.raw:  # of the whole forward, not of its first piece
        run.runtime.forward.memo.setdefault("longest", int(q_pos.max()) + 1)
    outs = []
    for start, stop in pieces(store.seen - n, n, shared):
        rows = slice(start, stop)
        held = block.first(past + stop)
        asked = _lookup(run, state, held, past + start, phase, q[:, :, rows], query[:, :, rows], q_pos[:, rows])
        outs.append(_attend(run, asked, q[:, :, rows], recaller.recall(asked)))
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)


def known(recaller: Recaller, store: Store) -> State:
    """What the recaller knows of this layer; nothing, if slots were moved since it was learned."""
    state = store.states.setdefault(recaller.card.name, {})
    if store.moved:
        if not recaller.counts_tokens:
            state.clear()
        store.moved = False
    return state


def learn_prompt(runtime: Runtime, cache: WindowCache, *, at: int = -1, new: int = 0) -> None:
    """What lookups will need of the prompt, made once for all layers, and shared by every question that comes. ``new`` tokens of the
    running forward came into the layers up to ``at`` already. The prompt's last queries are not needed afterwards."""
    from baywindow.window.engine.layer import LayerRun

    recaller, started = runtime.parts.recaller, time.perf_counter()
    assert recaller is not None
    states, unlearned = [], False
    for layer in runtime.info.full_layers:
        store = cache.store(layer.index)
        states.append(known(recaller, store))
        if store.tail is None or LEARNED in states[-1]:
            continue
        run = LayerRun(runtime, layer, runtime.found.modules[layer.index], NO_QUERIES, store, {})
        block = store.view()
        recaller.learn(_held(run, states[-1], block, block.length - (new if layer.index <= at else 0)))
        states[-1][LEARNED] = torch.ones(store.batch_size, dtype=torch.bool)
        store.watched, unlearned = None, True
    if unlearned:
        recaller.conclude(states)
        cache.spend("caches", time.perf_counter() - started)


def pieces(before: int, n: int, shared: int) -> Iterator[tuple[int, int]]:
    """Ranges of ``n`` queries that came after ``before`` tokens, cut at multiples of ``shared``: however a prompt was cut into forwards,
    its queries share lookups alike (those of a question begin with it, if they share one lookup)."""
    if shared >= n:
        yield 0, n
        return
    start = 0
    while start < n:
        stop = min(n, start + shared - (before + start) % shared)
        yield start, stop
        start = stop


def _held(run: LayerRun, state: State, block: Block, past: int) -> Held:
    from baywindow.window.engine.settling import last_valid

    store = run.store
    assert store is not None
    return Held(
        info=run.runtime.info,
        layer=run.layer,
        block=block,
        past=past,
        holes=store.holes,
        keys=lambda start, stop: run.angles.keys(block.part(start, stop)),
        turn=lambda queries, q_pos: at_angles(run, queries, q_pos),
        watched=lambda: last_valid(store, run.parts.query_window),
        state=state,
    )


def _lookup(run: LayerRun, state: State, block: Block, past: int, phase: Phase, q: Tensor, query: Tensor, q_pos: Tensor) -> Lookup:
    held = _held(run, state, block, past)
    return Lookup(
        **vars(held),
        phase=phase,
        queries=query,
        q_pos=q_pos,
        turned=lambda: at_angles(run, query, q_pos) if run.raw else q,
    )


def at_angles(run: LayerRun, queries: Tensor, q_pos: Tensor) -> Tensor:
    """Un-rotated queries at the angles that `Angles.keys` has for keys: the model's own, or those of a fixed scheme."""
    if run.turner is None:
        return queries
    if run.position is None or run.position.fixed:
        return run.angles.queries_at(queries, q_pos)
    return run.turner.turn(queries, q_pos.clamp(min=0))


def _attend(run: LayerRun, asked: Lookup, q: Tensor, chosen: Tensor | None) -> Tensor:
    run.shares_mask, run.picked_holes = False, False
    block = asked.block
    if chosen is not None and chosen.dtype == torch.bool:
        if (out := attend_by_head(run, block, q, chosen)) is not None:
            return out
        chosen = marked_slots(chosen & (block.head_positions >= 0) if asked.holes else chosen)
    if chosen is not None:
        run.picked_holes = int(chosen.min()) < 0
        block = picked(block, chosen, lambda at: _fetched(run, asked.block, at))
    return run.attend(run.attending(q, block, asked.q_pos, asked.queries))


def _fetched(run: LayerRun, block: Block, at: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of the slots ``at`` [B, H, m] (−1: a hole); what the last lookup brought back is not fetched again."""
    store, cache = run.store, run.runtime.forward.cache
    if not isinstance(block, Apart) or store is None or cache is None:
        return block.read(at.clamp(min=0))
    found = block.fetch(at, store.looked)
    store.looked = found.looked
    cache.count_apart(found.apart, found.brought)
    return found.keys, found.values


def picked(block: Block, index: Tensor, read: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Block:
    """The slots ``index`` [B, H or 1, m] of a block, for reading once: only keys and values are gathered now, by ``read``."""
    full = index.expand(-1, block.heads, -1)

    def positions() -> Tensor:
        alike = index.shape[1] == 1 and block.positions.dim() == 2
        of = block.positions[:, None] if alike else heads_of(block.positions, block.heads)
        at = (index if alike else full).clamp(min=0)
        found = of.gather(2, at).masked_fill(index < 0, -1)
        return found[:, 0] if alike else found

    keys, values = read(full)
    return Block.unread(keys=keys, values=values, tags={}, read=positions)
