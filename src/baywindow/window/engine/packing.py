"""What happens to tokens that have been attended: stored by several layers together, narrowed, packed, moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from baywindow.window.block import Flat
from baywindow.window.caches.base import Packing, Phase, PlainSegment, Segment, Together

if TYPE_CHECKING:
    from baywindow.window.engine.cache import WindowCache
    from baywindow.window.engine.layer import LayerRun
    from baywindow.window.engine.runtime import Runtime
    from baywindow.window.engine.store import Store

GROUP_TOKENS = 256  # that are laid apart at once, if no mover says how many


def pack(run: LayerRun, store: Store, phase: Phase) -> None:
    """Hand old tokens to those who pack them, and what is stored to the mover."""
    if lay_apart(run, store):
        return
    packer, narrower, mover = run.parts.quantiser, run.parts.narrower, run.parts.mover
    at = Packing(info=run.runtime.info, layer=run.layer, watched=lambda: _watched(run, store))
    if narrower is not None and phase == "prefill":
        if packer is not None:
            residual = max(packer.residual_tokens, narrower.residual_tokens)
            store.pack(packer.group_tokens, residual, lambda flat: narrower.narrow(flat, at, packer.encode))
        if packer is not None and narrower.residual_tokens > packer.residual_tokens:
            # Tokens that keep all channels are packed all the same, where the packer keeps fewer of them.
            store.pack(packer.group_tokens, packer.residual_tokens, lambda flat: packer.encode(flat, at))
        else:
            # What the packer leaves as it is has no need of all channels either; it is not packed later.
            store.pack(1, narrower.residual_tokens, lambda flat: narrower.narrow(flat, at, _plain))
    elif packer is not None:
        store.pack(packer.group_tokens, packer.residual_tokens, lambda flat: packer.encode(flat, at))
    if mover is not None:
        store.move(mover.group_tokens if packer is None else None, mover.put)


def lay_apart(run: LayerRun, store: Store) -> bool:
    """Put old tokens where lookups read them by slot, if this layer's tokens lie so."""
    parts = run.parts
    near = parts.recaller.near_tokens(run.runtime.info, run.layer) if parts.recaller is not None and parts.lays_apart else None
    if near is None:
        return False
    store.lay_apart(near, parts.mover.group_tokens if parts.mover is not None else GROUP_TOKENS)
    return True


def join(runtime: Runtime, cache: WindowCache) -> None:
    """Let the recipe's joiner store several layers together."""
    joiner = runtime.parts.joiner
    layers = tuple(layer for layer in runtime.info.full_layers if cache.store(layer.index).tail is not None)
    if joiner is None or not layers:
        return
    joiner.join(
        Together(
            info=runtime.info,
            layers=layers,
            protect_from=cache.protect_from,
            plain=lambda i: cache.store(i).plain(),
            store=lambda i, counts, make: cache.store(i).pack_first(counts, make),
            note=cache.note,
        )
    )


def _plain(flat: Flat, at: Packing) -> Segment:
    return PlainSegment(flat)


def _watched(run: LayerRun, store: Store) -> tuple[Tensor, Tensor]:
    from baywindow.window.engine.settling import last_valid

    assert run.parts.narrower is not None
    queries, q_pos = last_valid(store, run.parts.narrower.query_window())
    return (queries if run.raw or run.turner is None else run.angles.queries_at(queries, q_pos)), q_pos
