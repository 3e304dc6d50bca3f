"""How surprising each token was to the model that read it: a tag beside every token, for policies that ask (``reads_surprisal``).

Inside ``generate`` the vocabulary head runs for the last token only, so the hidden states that leave the decoder are sent through it here,
a few rows at a time, and nothing of vocabulary size stays. The last hidden state of a row is kept, so the first token of the next
forward is known too, whatever the pieces are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from baywindow.window.base import State
from baywindow.window.caches.base import SURPRISAL

if TYPE_CHECKING:
    from baywindow.window.engine.cache import WindowCache
    from baywindow.window.engine.runtime import Runtime

LOGIT_VALUES = 1 << 23  # held at once
LAST = "last"


@torch.no_grad()
def hear(runtime: Runtime, cache: WindowCache, hidden: Tensor, ids: Tensor) -> None:
    """Tag the tokens ``ids`` [B, n] (−1: padding) of the forward that gave ``hidden`` [B, n, d], in every full layer."""
    stores = [cache.store(layer.index) for layer in runtime.info.full_layers]
    if not stores:
        return
    kept: State = stores[0].states.setdefault(SURPRISAL, {})
    ids = ids.to(hidden.device)
    values = _values(runtime, hidden, ids, kept.get(LAST))
    real = ids >= 0
    final = torch.where(real, torch.arange(ids.shape[1], device=ids.device), -1).amax(dim=1)
    rows = hidden.gather(1, final.clamp(min=0)[:, None, None].expand(-1, 1, hidden.shape[-1]))[:, 0]
    kept[LAST] = rows if LAST not in kept else torch.where((final >= 0)[:, None], rows, kept[LAST])
    for store in stores:
        tail = store.tail
        if tail is not None and len(tail):
            n = min(len(tail), ids.shape[1])
            tag = tail.tags.get(SURPRISAL)
            tag = values.new_zeros(*tail.keys.shape[:2], len(tail)) if tag is None else tag.clone()
            tag[..., -n:] = values[:, None, -n:].to(tag.device)
            tail.tags[SURPRISAL] = tag


def _values(runtime: Runtime, hidden: Tensor, ids: Tensor, before: Tensor | None) -> Tensor:
    """Surprisals [B, n] in nats; the very first token of a row, which nothing precedes, gets the largest of its forward."""
    n = ids.shape[1]
    earlier = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[-1]) if before is None else before.to(hidden.device)[:, None]
    real = ids >= 0
    first = real & (real.long().cumsum(dim=1) == 1)  # of each row: what stands before it is not in this forward
    preceding = torch.where(first[..., None], earlier, torch.cat([earlier, hidden[:, :-1]], dim=1))
    size = max(1, LOGIT_VALUES // (runtime.info.vocabulary * ids.shape[0]))
    parts = [of_targets(logits(runtime.model, preceding[:, a : a + size]), ids[:, a : a + size].clamp(min=0)) for a in range(0, n, size)]
    values = torch.cat(parts, dim=1).masked_fill(~real, 0.0)
    if before is None:
        values = values.masked_fill(first, 0.0)
        values = torch.where(first, values.amax(dim=1, keepdim=True), values)
    return values


def of_targets(scores: Tensor, targets: Tensor) -> Tensor:
    """−log p of ``targets`` [B, n] under logits [B, n, V], float32."""
    return -scores.float().log_softmax(dim=-1).gather(-1, targets[..., None])[..., 0]


def logits(model: Any, hidden: Tensor) -> Tensor:
    """What the model's head says of hidden states, scaled and capped as the model does it."""
    config = model.config.get_text_config()
    out: Tensor = model.get_output_embeddings()(hidden)
    if (factor := getattr(model, "logit_scale", None)) is not None:  # Cohere
        out = out * factor
    if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
        out = out / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
        out = torch.tanh(out / cap) * cap
    return out
