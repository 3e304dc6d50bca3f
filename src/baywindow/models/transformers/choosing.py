"""How the next token is chosen: greedy, or temperature and nucleus sampling from a seed."""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.models.base import Sampling


class Chooser:
    """Chooses for some rows. Each row draws from its own generator with the same seed, so batching changes no row's draws."""

    def __init__(self, sampling: Sampling, rows: int) -> None:
        if sampling.temperature < 0:
            raise ConfigError.bad_value("temperature", sampling.temperature, "0 (greedy) or more")
        if not 0 < sampling.top_p <= 1:
            raise ConfigError.bad_value("top_p", sampling.top_p, "above 0 and at most 1")
        self._temperature, self._top_p = sampling.temperature, sampling.top_p
        # On the CPU wherever the model is: the same seed then gives the same draws on every device.
        self._generators = [torch.Generator().manual_seed(sampling.seed) for _ in range(rows)]

    def __call__(self, logits: Tensor) -> list[int]:
        """Ids, one a row, from logits of shape (row, vocabulary) in float32."""
        if self._temperature == 0:
            return [int(i) for i in logits.argmax(dim=-1)]
        probabilities = nucleus((logits / self._temperature).softmax(dim=-1).cpu(), self._top_p)
        return [int(torch.multinomial(row, 1, generator=g)) for row, g in zip(probabilities, self._generators, strict=True)]


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Keep the fewest most likely tokens that together reach ``top_p``, the others at 0 (not rescaled). Shape (row, vocabulary)."""
    if top_p >= 1:
        return probabilities
    ordered, index = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, index, ordered.masked_fill(before >= top_p, 0.0))
