"""Fetch a chunk, and at which quality, or compute it anew? A pure function of sizes, rates and the time that is left.

The paper's rule: text, which loses nothing, if all that is left can be computed in time; else the best quality at which all that is left
can be fetched in time. Where nothing fits, whatever is quickest for this chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from baywindow.errors import ConfigError


@dataclass(frozen=True)
class Chunk:
    """A chunk of a context: how many tokens, and its bytes by quality (a higher quality is nearer to the original)."""

    tokens: int
    nbytes: Mapping[int, int]


@dataclass(frozen=True)
class Rates:
    """As measured: ``bytes_per_s`` of fetching and decoding, ``tokens_per_s`` of prefill, and seconds until the context is wanted."""

    bytes_per_s: float
    tokens_per_s: float
    seconds_left: float

    def __post_init__(self) -> None:
        for name in ("bytes_per_s", "tokens_per_s"):
            if not (value := getattr(self, name)) > 0 or math.isinf(value):
                raise ConfigError.bad_value(name, value, "above 0 and finite")


@dataclass(frozen=True)
class Step:
    """``quality`` None: compute it from its text. ``seconds``: how long that takes at these rates."""

    quality: int | None
    seconds: float


def choose(left: Sequence[Chunk], rates: Rates) -> Step:
    """What to do with the first of the chunks that are ``left``."""
    if not left:
        raise ConfigError("there is no chunk to choose for")
    first = left[0]
    recompute = Step(None, first.tokens / rates.tokens_per_s)
    if sum(chunk.tokens for chunk in left) / rates.tokens_per_s <= rates.seconds_left:
        return recompute
    offered = set.intersection(*(set(chunk.nbytes) for chunk in left))
    for quality in sorted(offered, reverse=True):
        if sum(chunk.nbytes[quality] for chunk in left) / rates.bytes_per_s <= rates.seconds_left:
            return Step(quality, first.nbytes[quality] / rates.bytes_per_s)
    fetched = [Step(quality, size / rates.bytes_per_s) for quality, size in first.nbytes.items()]
    return min([recompute, *fetched], key=lambda step: step.seconds)


def plan(chunks: Sequence[Chunk], rates: Rates) -> list[Step]:
    """A step for every chunk, if the rates stay as they are. With rates that change, call `choose` before each chunk."""
    steps: list[Step] = []
    for i in range(len(chunks)):
        steps.append(choose(chunks[i:], rates))
        rates = replace(rates, seconds_left=rates.seconds_left - steps[-1].seconds)
    return steps
