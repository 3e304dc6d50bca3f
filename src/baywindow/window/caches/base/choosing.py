"""Caches that choose what stays: layer by layer while a prompt is read, or on all layers together at its end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from baywindow.budget import Budgeted
from baywindow.errors import RecipeError
from baywindow.registry import Technique
from baywindow.window.base import LayerInfo, ModelInfo
from baywindow.window.block import Block
from baywindow.window.caches.base.packing import Quantiser
from baywindow.window.caches.base.policy import CachePolicy, Moment, Phase, Seen


class Reducer(CachePolicy):
    """Drops or merges tokens. ``when`` names the phases it acts in; ``decode`` means after every later token too."""

    when: ClassVar[frozenset[Phase]] = frozenset({"prefill"})

    @abstractmethod
    def reduce(self, moment: Moment, block: Block, allocator: Allocator | None) -> Block:
        """What stays. Return ``block`` itself to change nothing."""

    def idle(self, length: int, seen: Tensor) -> bool:
        """Whether a step may leave `reduce` out: it would surely change nothing in a layer of ``length`` slots, holes included. ``seen`` as
        in `Moment`."""
        return False

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if "decode" in self.when and (packer := next((o for o in others if isinstance(o, Quantiser)), None)):
            raise RecipeError(
                f"{self.card.name} and {packer.card.name} cannot stand in one recipe: {self.card.name} drops tokens at every step, "
                f"and the packed groups of {packer.card.name} cannot be re-cut without losing precision each time",
                hint="choose a cache that acts once after the prompt, e.g. snapkv",
            )
        if "decode" in self.when and (sharer := next((o for o in others if isinstance(o, Allocator)), None)):
            raise RecipeError(
                f"{self.card.name} and {sharer.card.name} cannot stand in one recipe: {self.card.name} drops a token a step in every "
                "head, which heads of unequal length cannot follow",
                hint="choose a cache that acts once after the prompt, e.g. snapkv",
            )


class Selector(Reducer, Budgeted):
    """A reducer that scores tokens and keeps the best of each key/value head. Write `score`; the rest is here."""

    @abstractmethod
    def score(self, moment: Moment, block: Block) -> Tensor:
        """Higher stays; +inf always stays. Float [B, H, L], or [B, 1, L] to choose alike for all heads. Holes do not matter."""

    def budget(self, moment: Moment) -> Tensor:
        """Tokens a key/value head of this layer may keep, per row: int64 [B]."""
        return torch.tensor([self.budget_of(int(n)) for n in moment.seen.tolist()], device=moment.seen.device)

    def reduce(self, moment: Moment, block: Block, allocator: Allocator | None) -> Block:
        budget = self.budget(moment)
        protected = moment.protected(block)
        counted = (block.head_positions >= 0) & ~protected
        if bool((counted.sum(dim=-1) <= budget[:, None]).all()):
            return block
        scores = self.score(moment, block).float()
        chosen = (allocator.allocate if allocator else top_of_each_head)(scores.expand(-1, counted.shape[1], -1), counted, budget)
        return block.keep(chosen | protected)


class Allocator(CachePolicy):
    """Shares one layer's budget among its heads, over any selector's scores."""

    @abstractmethod
    def allocate(self, scores: Tensor, counted: Tensor, budget: Tensor) -> Tensor:
        """Which to keep: bool [B, H, L], from ``scores`` [B, H, L], ``counted`` (what may be chosen) and ``budget`` [B] a head.

        Row b may keep H · budget[b] in all, shared out as it likes.
        """

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if not any(isinstance(o, Selector) for o in others):
            raise RecipeError(f"{self.card.name} shares out the budget of another cache", hint=f"write {self.card.name} + snapkv")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The whole cache at the end of prefill. ``ids`` [B, n] are the tokens it was filled with (−1: padding), ``layers`` those with full
    attention. ``forward(ids, watch)`` runs extra tokens [B, m] over what is held, calls ``watch(Seen)`` for each of these layers and
    leaves nothing behind. ``keep(layer index, mask [B, H, L])`` drops the rest. ``tokenizer`` is the caller's, if one was given.
    ``turn_from`` [B] is the true position at which this prompt began, behind all that came before."""

    info: ModelInfo
    ids: Tensor
    layers: tuple[LayerInfo, ...]
    seen: Tensor
    protect_from: Tensor | None
    block: Callable[[int], Block]
    forward: Callable[[Tensor, Callable[[Seen], None]], None]
    keep: Callable[[int, Tensor], None]
    tokenizer: Any = None
    turn_from: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.long))


class Finisher(CachePolicy):
    """A cache that acts on all layers together, once, when the whole prompt is in."""

    @abstractmethod
    def finish(self, whole: Whole) -> None:
        """Look, run what must be run, and keep what should stay."""


def top_of_each_head(scores: Tensor, counted: Tensor, budget: Tensor) -> Tensor:
    """The best ``budget`` [B] of each row and head among ``counted`` [B, H, L]; earlier tokens win ties."""
    order = scores.masked_fill(~counted, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(-1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order))
    return counted & (rank < budget[:, None, None])
