"""What is known of the forward that is running: its cache, its positions, its angles. One per runtime, begun anew each time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from baywindow.window.engine.cache import WindowCache
from baywindow.window.engine.masks import MaskSpec


class Forward:
    """Filled by the decoder's hook, then by the rotary module, then read layer by layer."""

    def __init__(self) -> None:
        self.dtypes: dict[str, torch.dtype] = {}  # of cos and sin, by rotary table
        self.begin(None, None)

    def begin(self, cache: WindowCache | None, ids: Tensor | None) -> None:
        self.cache = cache
        self.ids = ids
        self.position_ids: Tensor | None = None
        self.angles: dict[str, tuple[Tensor, Tensor]] = {}
        self.counted = False
        self.memo: dict[Any, Any] = {}  # what layers of this forward share

    def record(self, key: str, position_ids: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Called by the rotary module."""
        self.position_ids = position_ids
        self.angles[key] = (cos, sin)
        self.dtypes[key] = cos.dtype

    @property
    def tokens(self) -> int:
        """New tokens of this forward, padding included."""
        return 0 if self.position_ids is None else self.position_ids.shape[-1]

    def positions(self, spec: MaskSpec, batch: int) -> Tensor:
        """True positions of the new tokens: int64 [B, n], −1 for padding."""
        key = ("positions", id(spec.padding))
        if key not in self.memo:
            assert self.position_ids is not None
            ids = self.position_ids.expand(batch, -1)
            padding = spec.new_padding
            self.memo[key] = ids if padding is None else ids.masked_fill(~padding, -1)
        return self.memo[key]  # type: ignore[no-any-return]

    def count(self, positions: Tensor) -> None:
        """Tell the cache once a forward what came in."""
        if self.cache is None or self.counted:
            return
        self.counted = True
        if self.cache.mode == "probe":
            return
        self.cache.count(positions)
        if self.ids is not None:
            self.cache.ids.append(self.ids.detach().masked_fill(positions < 0, -1).cpu())

    def snapshot(self) -> dict[str, Any]:
        """What is known now, to come back to after a forward inside this one."""
        return dict(self.__dict__)

    def restore(self, known: dict[str, Any]) -> None:
        self.__dict__.update(known)
