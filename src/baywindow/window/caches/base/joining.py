"""Caches that store less of each token of the prompt: narrower keys, or several layers as one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from baywindow.errors import RecipeError
from baywindow.registry import Technique
from baywindow.window.base import LayerInfo, ModelInfo
from baywindow.window.block import Block, Flat
from baywindow.window.caches.base.choosing import Allocator, Finisher, Reducer
from baywindow.window.caches.base.packing import Encode, Packing
from baywindow.window.caches.base.policy import CachePolicy
from baywindow.window.caches.base.segment import Segment


class Narrower(CachePolicy):
    """Leaves channels out of the prompt's keys, but for those of its last ``residual_tokens``; what is left may be packed further. Tokens
    that come later keep all channels."""

    residual_tokens: int

    @abstractmethod
    def narrow(self, flat: Flat, at: Packing, encode: Encode) -> Segment:
        """Keys without some channels, stored by ``encode`` and read back at full width."""

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if late := next((o for o in others if isinstance(o, Reducer) and "decode" in o.when), None):
            raise RecipeError(
                f"{self.card.name} and {late.card.name} cannot stand in one recipe: {late.card.name} drops tokens at every step, "
                "which brings the others back at full width",
                hint="choose a cache that acts once after the prompt, e.g. snapkv",
            )


@dataclass(frozen=True, kw_only=True)
class Together:
    """The plain tokens of all layers at the end of prefill. ``layers`` are those with full attention, ``protect_from`` is as in `Moment`.
    ``plain(layer index)`` is what no segment has packed yet; ``store(layer index, counts [B, H], make)`` replaces the first ``counts`` of
    it by the segment that ``make`` gives."""

    info: ModelInfo
    layers: tuple[LayerInfo, ...]
    protect_from: Tensor | None
    plain: Callable[[int], Block]
    store: Callable[[int, Tensor, Callable[[Flat], Segment]], None]
    note: Callable[[str], None]  # something a person should see in the report


class Joiner(CachePolicy):
    """Stores tokens of several layers together, once, when the whole prompt is in and nothing of it is packed yet."""

    @abstractmethod
    def join(self, together: Together) -> None:
        """Store what is better stored together."""

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if chooser := next((o for o in others if isinstance(o, Reducer | Finisher | Allocator)), None):
            raise RecipeError(
                f"{self.card.name} and {chooser.card.name} cannot stand in one recipe: {self.card.name} stores a token of several layers "
                f"as one, and behind {chooser.card.name} every head holds other tokens",
                hint="choose one of them",
            )
