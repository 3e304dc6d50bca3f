"""A layer of the cache as transformers sees it.

`update` only counts and tags; the attention function calls `append` with what should really be kept, reads `view`, and settles once
the layer has attended. Lengths that transformers asks for are *logical*: how many tokens went in, not how many are held.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from baywindow.errors import CapabilityError
from baywindow.window.base import LayerInfo
from baywindow.window.engine.holding import Holding

TAG = "_baywindow_store"


class Store(Holding, CacheLayerMixin):  # type: ignore[misc]
    """What `Holding` says, behind the methods that transformers calls."""

    is_compileable = False
    is_sliding = False

    def __init__(self, layer: LayerInfo, *, croppable: bool) -> None:
        CacheLayerMixin.__init__(self)
        Holding.__init__(self, layer)
        self.is_sliding = layer.is_sliding
        self.is_croppable = croppable
        self.is_initialized = False

    # -- what transformers calls ------------------------------------------------------------------------------------------

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Tag and hand back; nothing is stored yet (positions and queries are known only in the attention function)."""
        self.is_initialized = True
        setattr(key_states, TAG, self)
        return key_states, value_states

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def activate_past_recording(self) -> None:
        self.record_past = True

    def reset(self) -> None:
        self.__init__(self.layer, croppable=self.is_croppable)  # type: ignore[misc]

    def offload(self) -> None:
        raise CapabilityError("transformers' own offloading cannot be used with this cache", hint="add `+ offload` to the recipe")

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the last ``-tokens_to_remove`` slots (0 only ends a recording of the past)."""
        n = -tokens_to_remove
        if n < 0:
            raise CapabilityError("crop takes a negative number of tokens")
        if n and not self.is_croppable:
            raise CapabilityError(
                "tokens cannot be taken back from a cache that drops or packs tokens",
                hint="use a recipe without caches for assisted decoding",
            )
        if self.tail is not None and n:
            self._check_window_intact(n)
            self.tail.drop_last(n)
            self.seen -= n
            self.moved = True
        self.trim()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.tail is not None or self.segments:
            self.rows(torch.arange(self.batch_size).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        index = indices.nonzero().flatten() if indices.dtype == torch.bool else indices
        self.rows(index)

    def _check_window_intact(self, n: int) -> None:
        window = self.layer.sliding_window
        if window is None or self.tail is None or self.seen < window:
            return
        if len(self.tail) - n < min(self.seen - n, window - 1):
            raise CapabilityError(
                "a sliding layer no longer holds what taking tokens back would need", hint="call activate_past_recording() first"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Store:
        """A copy that shares nothing that can change: the tail is copied, segments are never modified and stay shared."""
        new = copy.copy(self)
        new.segments, new.looked = list(self.segments), None
        new.tail = self.tail.rows(torch.arange(self.batch_size, device=self.tail.keys.device)) if self.tail is not None else None
        new.states = {name: {key: t.clone() for key, t in state.items()} for name, state in self.states.items()}
        memo[id(self)] = new
        return new
