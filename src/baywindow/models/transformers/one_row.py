"""Linear layers that take the matrix-vector product where a single token goes through them.

A token that is decoded is one row, and `functional.linear` asks oneDNN for a matrix product all the same: in bfloat16 its kernels are made
for blocks of rows and reach less than half of the memory's speed with one. torch's own bfloat16 matrix-vector product reads the weights
once, adds in float32 and needs no other layout of them. Several rows, other devices and other formats (MKL's float32 product is fast
already) go the way they always went. What it saves is in docs/measured/decode.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OneRow(nn.Linear):
    """`nn.Linear`; the same weights, names and results up to rounding."""

    def forward(self, input: Tensor) -> Tensor:  # the name that torch gives it
        """(…, in) to (…, out)."""
        weight = self.weight
        if input.numel() != self.in_features or weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(input)
        row = input.reshape(-1)
        found = torch.mv(weight, row) if self.bias is None else torch.addmv(self.bias, weight, row)
        return found.view(*input.shape[:-1], self.out_features)


def by_row(model: nn.Module) -> None:
    """Let the plain linear layers of ``model`` do so. Weights and names stay; subclasses (adapters, quantised layers) are left alone."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneRow
