"""Log-probabilities of given tokens, and the insides of a forward, in chunks that fit memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baywindow.errors import CapabilityError, ConfigError
from baywindow.models.base import Want
from baywindow.models.transformers.loop import forward

_LOGIT_VALUES = 1 << 25  # at most 128 MB of float32 logits at once; a vocabulary may have 262,144 entries


def continuation_scores(model: Any, ids: Sequence[int], first: int, cache: Any, lock: AbstractContextManager[Any]) -> NDArray[np.float32]:
    """Natural log-probability of each of ``ids[first:]`` given all before it, and the entropy in nats of what it was drawn from.

    Both in one array of shape (2, len(ids) - first). ``first`` is at least 1.
    """
    whole = torch.tensor([list(ids)], device=model.device)
    mask = torch.ones_like(whole)
    size = max(16, min(256, _LOGIT_VALUES // int(model.config.get_text_config().vocab_size)))
    found: list[Tensor] = []
    last = whole.shape[1] - 1  # the last token is only predicted, never fed
    for start in range(0, last, size):
        end = min(start + size, last)
        keep = end - max(start, first - 1)
        with lock:
            logits = forward(model, whole[:, start:end], mask[:, :end], cache, max(1, keep))
        if keep > 0:
            found.append(of_targets(logits[0], whole[0, end - keep + 1 : end + 1]))
    return torch.cat(found, dim=1).numpy() if found else np.zeros((2, 0), dtype=np.float32)


@torch.inference_mode()
def of_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of ``targets`` (token,) and entropies under ``logits`` (token, vocabulary): (2, token), on the CPU."""
    logs = logits.float().log_softmax(dim=-1)
    entropy = torch.special.entr(logs.exp()).sum(dim=-1)
    return torch.stack([logs.gather(-1, targets[:, None])[:, 0], entropy]).cpu()


def insides(model: Any, ids: Sequence[int], layers: Sequence[int], want: frozenset[Want]) -> dict[Want, dict[int, NDArray[np.float32]]]:
    """Attention (head, query, key) and hidden states (token, dim) that leave the named blocks, without the cache.

    Only the named layers are kept, through hooks: asking transformers for all of them would hold every layer's matrix.
    """
    blocks = model.get_decoder().layers
    numbers = [layer_number(layer, len(blocks)) for layer in layers]
    found: dict[Want, dict[int, NDArray[np.float32]]] = {"attention": {}, "hidden": {}}

    def keep(kind: Want, number: int, place: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            value = output[place] if isinstance(output, tuple) else output
            if value is None:
                raise CapabilityError("this model's attention gives no weights", hint="use one with standard attention")
            found[kind][number] = value[0].float().cpu().numpy()

        return hook

    hooks = []
    try:
        for asked, number in zip(layers, numbers, strict=True):
            if "attention" in want:
                hooks.append(blocks[number].self_attn.register_forward_hook(keep("attention", asked, 1)))
            if "hidden" in want:
                hooks.append(blocks[number].register_forward_hook(keep("hidden", asked, 0)))
        with eager(model) if "attention" in want else _as_is(), torch.inference_mode():
            whole = torch.tensor([list(ids)], device=model.device)
            model.get_decoder()(input_ids=whole, attention_mask=torch.ones_like(whole), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """The slow attention that has weights to show, for this block only."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _as_is() -> Iterator[None]:
    yield


def layer_number(layer: int, count: int) -> int:
    """A block's number from 0; ConfigError for one that is not there."""
    if not -count <= layer < count:
        raise ConfigError.bad_value("layer", layer, f"from 0 to {count - 1}, or from -{count} counted from the end")
    return layer % count
