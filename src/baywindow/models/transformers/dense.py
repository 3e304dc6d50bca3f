"""A linear layer whose bfloat16 weights are laid out once as the processor's products want them.

`functional.linear` gives oneDNN the weights as they are stored, and every call copies them into the layout of its kernels: for the few
tokens of a question that copy is a good part of the time. torch.compile lays them out once through two operators of torch, and so does
this file, without compiling anything. The same product takes GELU along while its result is in the cache. Other formats (in float32
batches were slower so), other devices, and builds of torch without oneDNN compute as ever.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FEW_TOKENS = 16  # what the layout is chosen for; thousands are no slower with it


class Dense:
    """x → x Wᵀ + b, with ``weight`` (out, in) and ``bias`` (out,). For inference only."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._bias = bias
        self._packed = packed(weight)
        self._weight = weight if self._packed is None else weight.new_empty(0)  # not both: they are as large as the model

    def __call__(self, x: Tensor) -> Tensor:
        """(token, in) to (token, out)."""
        if self._packed is None:
            return functional.linear(x, self._weight, self._bias)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return found

    def gelu(self, x: Tensor) -> Tensor:
        """The exact GELU of the product; packed it is rounded once instead of twice."""
        if self._packed is None:
            return functional.gelu(self(x))
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "gelu", [], "none")
        return found


def packed(weight: Tensor) -> Tensor | None:
    """The weights in oneDNN's own layout; None where there is none for them here."""
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or not torch.backends.mkldnn.enabled:
        return None
    try:
        found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), FEW_TOKENS)
    except (AttributeError, RuntimeError):  # no such operator in this build, or no bfloat16 in this processor
        return None
    return found
