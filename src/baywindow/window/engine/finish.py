"""The end of prefill: what held-back policies do, once, with the right to run extra forwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baywindow.window.block import Block
from baywindow.window.caches.base import Seen, Whole
from baywindow.window.engine.cache import WindowCache
from baywindow.window.engine.packing import join, pack
from baywindow.window.engine.recalling import NO_QUERIES, learn_prompt

if TYPE_CHECKING:
    from baywindow.window.engine.runtime import Runtime


def finish_cache(runtime: Runtime, cache: WindowCache) -> None:
    """Run the recipe's finisher over the whole cache, then pack and place what stayed."""
    from baywindow.window.engine.layer import LayerRun

    finisher = runtime.parts.finisher
    if finisher is not None and cache.row_tokens is not None:
        started = time.perf_counter()
        seen = cache.row_tokens if cache.protect_from is None else torch.minimum(cache.row_tokens, cache.protect_from)
        finisher.finish(
            Whole(
                info=runtime.info,
                ids=torch.cat(cache.ids, dim=1) if cache.ids else torch.empty(0, 0, dtype=torch.long),
                layers=runtime.info.full_layers,
                seen=seen,
                protect_from=cache.protect_from,
                block=lambda i: cache.store(i).view(),
                forward=lambda ids, watch: probe_forward(runtime, cache, ids, watch),
                keep=lambda i, mask: _keep(cache, i, mask),
                tokenizer=runtime.tokenizer,
                turn_from=torch.zeros_like(seen) if cache.turn_from is None else cache.turn_from,
            )
        )
        cache.spend("finish", time.perf_counter() - started)
    join(runtime, cache)
    for layer in runtime.info.full_layers:
        store = cache.store(layer.index)
        if store.tail is not None:
            pack(LayerRun(runtime, layer, runtime.found.modules[layer.index], NO_QUERIES, store, {}), store, "prefill")
    if runtime.parts.recaller is not None:
        learn_prompt(runtime, cache)


def _keep(cache: WindowCache, index: int, mask: Tensor) -> None:
    store = cache.store(index)
    block: Block = store.view()
    if not bool(mask[block.head_positions >= 0].all()):
        store.replace(block.keep(mask), dense=bool(block.tags))


@torch.no_grad()
def probe_forward(runtime: Runtime, cache: WindowCache, ids: Tensor, watch: Callable[[Seen], None]) -> None:
    """Extra tokens [B, m] (−1 in front: none) over what is held; every full layer is shown to ``watch``, and nothing of it stays.

    They stand behind the last token of their row, so rows of a padded batch see what they would alone.
    """
    assert cache.row_tokens is not None
    device = runtime.model.get_input_embeddings().weight.device  # type: ignore[operator]
    m, mode, recorded = ids.shape[1], cache.mode, [s.record_past for s in cache.stores]
    outer = runtime.forward.snapshot()
    cache.mode, cache.watcher = "probe", watch
    for store in cache.stores:
        store.record_past = True
    try:
        real = (ids >= 0).to(device)
        positions = cache.row_tokens.to(device)[:, None] + (real.long().cumsum(dim=1) - 1).clamp(min=0)
        past = torch.ones(ids.shape[0], cache.get_seq_length(), dtype=torch.long, device=device)
        runtime.found.decoder(
            input_ids=ids.clamp(min=0).to(device),
            attention_mask=torch.cat([past, real.long()], dim=1),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
    finally:
        cache.mode, cache.watcher = mode, None
        for store, was in zip(cache.stores, recorded, strict=True):
            if store.tail is not None:
                store.take_back(m)
            store.record_past = was
        runtime.forward.restore(outer)
