"""How many quantisation bins a layer gets: fewer in deeper ones, fewer for values.

The released code lists bins for a model of 32 layers; here its borders are shares of the depth, so that any model has its three parts.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["keys", "values"]
KEY_BORDERS = (10 / 32, 20 / 32)  # of the depth
VALUE_BORDERS = (2 / 32,)
BINS: dict[int, dict[Kind, tuple[int, ...]]] = {
    1: {"keys": (16, 16, 12), "values": (16, 12)},
    2: {"keys": (32, 16, 16), "values": (32, 16)},
    3: {"keys": (32, 32, 32), "values": (32, 32)},
    4: {"keys": (64, 64, 64), "values": (64, 64)},
}
QUALITIES = tuple(BINS)


def bins_of(quality: int, kind: Kind, layer: int, layers: int) -> int:
    """Bins of ``layer`` (0 to ``layers`` − 1) for keys or values."""
    borders = KEY_BORDERS if kind == "keys" else VALUE_BORDERS
    return BINS[quality][kind][sum(layer >= border * layers for border in borders)]


def steps_of(bins: int) -> int:
    """The largest symbol on either side of zero: bins are symmetric and one of them is zero, so an even number leaves one unused."""
    return bins // 2 - 1
