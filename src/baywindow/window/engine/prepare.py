"""`prepare`: run a technique's offline calibration on a model and keep what it finds.

One stock seam stays in the model meanwhile; candidates that a search wants scored are put into it one after the other, so each costs
one forward and not a probe and a self-test besides. A search that is stopped goes on where it was: its checkpoint is bound to model,
settings and text, and removed at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor, nn

from baywindow.errors import ConfigError, SourceError
from baywindow.recipe import Recipe
from baywindow.window.base import Calibrated, Calibration, InsideTechnique, LayerInfo
from baywindow.window.engine.calibrated import arrays_path, save_arrays
from baywindow.window.engine.fingerprint import fingerprint
from baywindow.window.engine.parts import Parts
from baywindow.window.engine.runtime import Runtime, attach

Observe = Callable[[LayerInfo, Tensor, Tensor], None]


def prepare(model: nn.Module, part: InsideTechnique, ids: Tensor) -> Path:
    """Calibrate ``part`` on token ids [1, n] and return the file its arrays were written to; attaching a recipe with it finds them.

    Raises ConfigError for a technique that has nothing to prepare, SourceError for an empty text and whatever the technique raises.
    """
    if not isinstance(part, Calibrated):
        raise ConfigError(f"{part.card.name} has nothing to prepare", hint="use it as it is")
    if ids.dim() != 2 or ids.shape[0] != 1 or ids.shape[1] < 2:
        raise SourceError("the calibration text has fewer than two tokens", hint="give a text of several windows")
    path = arrays_path(fingerprint(model), part)
    text = hashlib.sha256(ids.cpu().numpy().tobytes()).hexdigest()[:16]
    checkpoint = path.with_suffix(f".{text}.checkpoint")
    with attach(model) as runtime, torch.no_grad():
        arrays = part.prepare(_calibration(runtime, ids, checkpoint))
    save_arrays(path, arrays)
    checkpoint.unlink(missing_ok=True)
    return path


def _calibration(runtime: Runtime, ids: Tensor, checkpoint: Path) -> Calibration:
    layer = next((layer for layer in runtime.info.full_layers if layer.has_rope), None)
    if layer is None:
        raise ConfigError(f"{runtime.info.name} has no full-attention layer with rotary positions", hint="there is nothing to calibrate")
    turner = runtime.turners[layer.rope_key]

    def load() -> dict[str, NDArray[np.float32]]:
        return load_file(checkpoint) if checkpoint.is_file() else {}

    def save(arrays: Mapping[str, NDArray[np.float32]]) -> None:
        save_arrays(checkpoint, arrays)

    return Calibration(
        info=runtime.info,
        ids=ids,
        forward=lambda some, observe: _forward(runtime, some, observe),
        sensitivity=lambda some, take: _sensitivity(runtime, some, take),
        load_checkpoint=load,
        save_checkpoint=save,
        score_with=lambda part, some, tail: _score(runtime, part, some, tail),
        inv_freq=turner.inv_freq,
        pair_columns=turner.columns,
    )


def _forward(runtime: Runtime, ids: Tensor, observe: Observe | None) -> Tensor:
    """Logits [1, n, V] of the stock model; ``observe`` sees every layer."""
    runtime.observer = (lambda layer, q, k, v: observe(layer, q, k)) if observe is not None else None
    try:
        logits: Tensor = runtime.model(ids, use_cache=False).logits
    finally:
        runtime.observer = None
    return logits


@torch.enable_grad()
def _sensitivity(runtime: Runtime, ids: Tensor, take: Callable[[LayerInfo, Tensor, Tensor, Tensor, Tensor], None]) -> None:
    """Keys and values of every layer and the gradients of the mean loss of ``ids`` [1, n] by them; weights get none."""
    held: list[tuple[LayerInfo, Tensor, Tensor]] = []
    runtime.observer = lambda layer, q, k, v: held.append((layer, k, v))
    try:
        # Gradients begin at the embeddings, so that it does not matter whether the model's weights are frozen.
        embedded = runtime.model.get_input_embeddings()(ids).detach().requires_grad_()  # type: ignore[operator]
        logits = runtime.model(inputs_embeds=embedded, use_cache=False).logits[0, :-1].float()
    finally:
        runtime.observer = None
    loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:].to(logits.device))
    del logits
    gradients = torch.autograd.grad(loss, [t for _, k, v in held for t in (k, v)])
    for (layer, keys, values), by_key, by_value in zip(held, gradients[0::2], gradients[1::2], strict=True):
        take(layer, keys.detach(), values.detach(), by_key, by_value)


def _score(runtime: Runtime, part: InsideTechnique, ids: Tensor, tail: int) -> float:
    """Mean negative log-likelihood of the last ``tail`` tokens (0: all but the first), in nats, with ``part`` in the seam this once."""
    count = tail or ids.shape[1] - 1
    kept = runtime.parts
    try:
        runtime.parts = Parts.of(Recipe((part,)))
        runtime.parts.check(runtime.info)
        logits = runtime.model(ids[:, :-1], use_cache=False).logits[0, -count:].float()
    finally:
        runtime.parts = kept
    return float(torch.nn.functional.cross_entropy(logits, ids[0, -count:].to(logits.device)))
