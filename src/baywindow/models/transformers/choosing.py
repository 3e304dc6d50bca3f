"""How the next token is chosen: greedy, or temperature and nucleus sampling from a seed; held to a schema, and scored, where asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.models.base import Sampling
from baywindow.models.transformers.guides import Guide


class Pick(NamedTuple):
    """A token that was chosen, and the likeliest ones in its place, with natural log-probabilities."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Chooser:
    """Chooses for some rows. Each row draws from its own generator with the same seed, so batching changes no row's draws. ``guides``,
    one a row or none, say what may follow; ``picks``, one list a row, are there where the sampling asks for scores."""

    def __init__(self, sampling: Sampling, rows: int, guides: Sequence[Guide] = ()) -> None:
        if sampling.temperature < 0:
            raise ConfigError.bad_value("temperature", sampling.temperature, "0 (greedy) or more")
        if not 0 < sampling.top_p <= 1:
            raise ConfigError.bad_value("top_p", sampling.top_p, "above 0 and at most 1")
        self._temperature, self._top_p = sampling.temperature, sampling.top_p
        # On the CPU wherever the model is: the same seed then gives the same draws on every device.
        self._generators = [torch.Generator().manual_seed(sampling.seed) for _ in range(rows)]
        self._guides = guides
        self._alternatives = sampling.logprobs or 0
        self.picks: list[list[Pick]] = [[] for _ in range(rows)] if sampling.logprobs is not None else []

    def __call__(self, logits: Tensor) -> list[int]:
        """Ids, one a row, from logits of shape (row, vocabulary) in float32."""
        allowed = logits
        if self._guides:
            masks = torch.stack([guide.allowed(logits.shape[-1]) for guide in self._guides]).to(logits.device)
            allowed = logits.masked_fill(~masks, -torch.inf)
        chosen = self._chosen(allowed)
        for guide, token in zip(self._guides, chosen, strict=False):
            guide.take(token)
        if self.picks:
            self._note(logits, chosen)
        return chosen

    def _chosen(self, logits: Tensor) -> list[int]:
        if self._temperature == 0:
            return [int(i) for i in logits.argmax(dim=-1)]
        probabilities = nucleus((logits / self._temperature).softmax(dim=-1).cpu(), self._top_p)
        return [int(torch.multinomial(row, 1, generator=g)) for row, g in zip(probabilities, self._generators, strict=True)]

    def _note(self, logits: Tensor, chosen: list[int]) -> None:
        logprobs = logits.log_softmax(dim=-1)
        values, tokens = logprobs.topk(self._alternatives, dim=-1)
        for row, token in enumerate(chosen):
            top = tuple(zip(tokens[row].tolist(), values[row].tolist(), strict=True))
            self.picks[row].append(Pick(token, float(logprobs[row, token]), top))


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Keep the fewest most likely tokens that together reach ``top_p``, the others at 0 (not rescaled). Shape (row, vocabulary)."""
    if top_p >= 1:
        return probabilities
    ordered, index = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, index, ordered.masked_fill(before >= top_p, 0.0))
