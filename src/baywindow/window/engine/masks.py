"""The door for masks: what the model wants hidden, as a small description instead of a 4-D tensor.

Transformers asks the mask function registered under our name once per forward and layer type; it returns a `MaskSpec`, which travels
untouched to the attention function. There the model's own mask function is called on *true positions*, so causal and sliding
windows stay right when tokens were evicted, whatever their slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from baywindow.errors import CapabilityError, ConfigError


@dataclass(eq=False)
class MaskSpec:
    """``padding`` bool [B, seen + new] or None, the model's ``mask_function``, its window (``local_size``) where it has one, and
    ``stock``: the arguments transformers' own mask would be made from."""

    padding: Tensor | None
    mask_function: Callable[..., Tensor]
    local_size: int | None
    q_offset: int
    q_length: int
    may_skip: bool
    stock: dict[str, Any]
    memo: dict[Any, Any] = field(default_factory=dict)

    @property
    def new_padding(self) -> Tensor | None:
        """Which of the new tokens are real: bool [B, n], or None if all are."""
        if "new" not in self.memo:
            part = None
            if self.padding is not None:
                end = self.q_offset + self.q_length
                if self.padding.shape[1] < end:
                    raise ConfigError(
                        f"attention_mask covers {self.padding.shape[1]} tokens, but {end} are held or new",
                        hint="pass a 2-D mask over the whole sequence, held tokens included",
                    )
                part = self.padding[:, self.q_offset : end]
                part = None if bool(part.all()) else part
            self.memo["new"] = part
        return self.memo["new"]  # type: ignore[no-any-return]

    def allowed(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        """Which pairs may meet: bool [B, 1 or H, n, L] from true positions ``q_pos`` [B, n] and ``k_pos`` [B, L] or [B, H, L].

        Holes are hidden. A padded query sees everything: an empty row would become NaN.
        """
        q = q_pos[:, None, :, None]
        k = (k_pos if k_pos.dim() == 3 else k_pos[:, None, :])[:, :, None, :]
        zero = q.new_zeros(())
        return (self.mask_function(zero, zero, q, k) & (k >= 0)) | (q < 0)


def mask_spec(
    *, q_length: int, q_offset: int | Tensor = 0, mask_function: Callable[..., Tensor], attention_mask: Tensor | None = None, **kwargs: Any
) -> MaskSpec:
    """What is registered in transformers' mask interface."""
    if kwargs.get("use_vmap"):
        raise CapabilityError("the model adds its own mask pattern (bidirectional or blockwise)", hint="only causal language models")
    if isinstance(q_offset, Tensor):
        raise CapabilityError("a static cache cannot be used here", hint="pass past_key_values=w.cache()")
    stock = dict(kwargs, q_length=q_length, q_offset=q_offset, mask_function=mask_function, attention_mask=attention_mask)
    return MaskSpec(
        padding=attention_mask,
        mask_function=mask_function,
        local_size=kwargs.get("local_size"),
        q_offset=q_offset,
        q_length=q_length,
        may_skip=bool(kwargs.get("allow_is_causal_skip", True)),
        stock=stock,
    )


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask as transformers' eager attention adds it: 0 where True, the smallest finite number elsewhere."""
    return torch.where(mask, torch.zeros((), dtype=dtype, device=mask.device), torch.finfo(dtype).min)
