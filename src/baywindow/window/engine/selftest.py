"""The proof at the door: about eight tokens through the stock model and through the seam, before anything is switched over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from baywindow.errors import CapabilityError

if TYPE_CHECKING:
    from baywindow.window.engine.runtime import Runtime

TOKENS = 8
STEPS = 2  # of the tokens above, fed one by one to the cache
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 6e-2, torch.float16: 1e-2}


def tokens(model: nn.Module, config: Any) -> Tensor:
    """Fixed token ids [1, 8] within the vocabulary."""
    generator = torch.Generator().manual_seed(20)
    ids = torch.randint(0, int(config.vocab_size), (1, TOKENS), generator=generator)
    return ids.to(model.get_input_embeddings().weight.device)  # type: ignore[operator]


@torch.no_grad()
def stock_logits(model: nn.Module, config: Any) -> Tensor:
    """The stock model's logits [8, V], without a cache."""
    return model(input_ids=tokens(model, config), use_cache=False).logits[0].float()  # type: ignore[no-any-return]


@torch.no_grad()
def compare(runtime: Runtime, expected: Tensor) -> None:
    """Raise CapabilityError if the seam without techniques gives other logits, without a cache or with one.

    The difference allowed is relative to the largest logit, and depends on the model's number format.
    """
    dtype = next(runtime.model.parameters()).dtype
    allowed = TOLERANCE.get(dtype, 1e-2) * max(1.0, float(expected.abs().max()))
    differences = _differences(runtime, expected)
    if runtime.fold_gqa and not runtime.fold_must_hold and not differences["with a cache"] <= allowed:
        runtime.fold_gqa = False
        differences = _differences(runtime, expected)
    for way, worst in differences.items():
        if not worst <= allowed:
            raise CapabilityError(
                f"baywindow cannot work inside {runtime.info.name}: its logits {way} differ from the stock model's by {worst:.3g}",
                hint="this architecture needs an adapter; please report it with the model's name",
            )


def _differences(runtime: Runtime, expected: Tensor) -> dict[str, float]:
    """The largest difference to the stock logits, by way of running."""
    ids = tokens(runtime.model, runtime.found.config)
    parts, runtime.parts = runtime.parts, type(runtime.parts).none()
    try:
        plain = runtime.model(input_ids=ids, use_cache=False).logits[0].float()
        cache = runtime.cache()
        pieces = [ids[:, : TOKENS - STEPS], *(ids[:, i : i + 1] for i in range(TOKENS - STEPS, TOKENS))]
        cached = torch.cat([runtime.model(input_ids=p, past_key_values=cache, use_cache=True).logits[0].float() for p in pieces])
    finally:
        runtime.parts = parts
        runtime.last_cache = None
    return {"without a cache": float((plain - expected).abs().max()), "with a cache": float((cached - expected).abs().max())}
