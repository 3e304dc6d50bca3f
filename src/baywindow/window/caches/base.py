"""The contract of the caches room: what stays of keys and values, and in which form.

A recipe chains at most one policy of each role: a *reducer* drops or merges tokens, an *allocator* shares the budget among heads,
a *narrower* leaves channels of the keys out, a *joiner* stores several layers together, a *quantiser* packs what stayed, a *mover*
says where it lies. The engine calls them; they hold no tensors of their own.
Sliding-window layers never reach a policy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from baywindow.budget import Budgeted
from baywindow.errors import RecipeError
from baywindow.registry import Technique
from baywindow.window.base import InsideTechnique, LayerInfo, ModelInfo, State
from baywindow.window.block import Block, Flat
from baywindow.window.positions.base import Asked

Phase = Literal["prefill", "decode"]
SURPRISAL = "surprisal"  # the tag that `CachePolicy.reads_surprisal` asks for


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One layer's attention of one forward, for policies that watch. ``weights(start, stop)`` computes the softmax weights of these
    queries over everything held, [B, Hq, stop − start, L] float32 (0 in holes): nobody pays who does not call it.

    ``queries`` [B, Hq, n, D] un-rotated, ``q_pos`` [B, n] (−1: padding). ``block`` is what is held, new tokens last.
    ``state`` and ``tags`` ([B, H, L] each, aligned with ``block``; dropped and reordered with the tokens) may be written to.
    """

    layer: LayerInfo
    phase: Phase
    queries: Tensor
    q_pos: Tensor
    block: Block
    weights: Callable[[int, int], Tensor]
    state: State
    tags: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a policy sees when it is asked to act on one layer.

    ``seen`` [B] counts the tokens a row has had so far, those kept out by ``protect_from`` (a true position per row [B], or None:
    the question) not counted. ``queries`` [B, Hq, w, D] are the last un-rotated queries of what is being compressed, w =
    `CachePolicy.query_window`, at ``q_pos`` [B, w] (−1: none). ``weights(queries, q_pos, block)`` gives their softmax weights
    over a block, [B, Hq, w, L] float32, with the recipe's own angles and masks. ``keys(block)`` are its rotated keys [B, H, L, D],
    however they are held; ``turn(at)`` is the mean rotation over positions ``at`` [B, m] as a matrix [B, D, D] that multiplies row
    vectors from the right, float32. Both use the model's own frequencies (those of a ``fixed`` scheme where the recipe has one).
    ``shared`` passes from layer to layer of one forward, first to last, and is then forgotten; it may be written to.
    """

    info: ModelInfo
    layer: LayerInfo
    phase: Phase
    seen: Tensor
    protect_from: Tensor | None
    queries: Tensor
    q_pos: Tensor
    weights: Callable[[Tensor, Tensor, Block], Tensor]
    keys: Callable[[Block], Tensor]
    turn: Callable[[Tensor], Tensor]
    state: State
    shared: State = field(default_factory=dict)

    def protected(self, block: Block) -> Tensor:
        """Where the question stands: bool [B, H, L]."""
        if self.protect_from is None:
            return torch.zeros(block.head_positions.shape, dtype=torch.bool, device=block.keys.device)
        return block.head_positions >= self.protect_from[:, None, None]


class CachePolicy(InsideTechnique):
    """What all roles share. ``slot`` in the card is the role: reduce, allocate, narrow, join, quantise or move."""

    needs_raw_keys: ClassVar[bool] = False  # True: keys are held un-rotated and rotated at every use
    watches: ClassVar[bool] = False  # True: `watch` is called after every attention
    reads_surprisal: ClassVar[bool] = False  # True: every token of a tail gets the tag `SURPRISAL`, −log p in nats, after its forward

    def query_window(self) -> int:
        """How many of the last queries to keep for `Moment.queries`."""
        return 0

    def watch(self, seen: Seen) -> None:
        """See one layer's attention; write to ``seen.state`` or ``seen.tags``."""

    def renumber(self, asked: Asked) -> tuple[Tensor, Tensor] | None:
        """Positions inside the cache for queries and keys (the shapes of ``asked.q_pos`` and ``asked.k_pos``), or None for the true
        ones. A position scheme then works on these. Needs ``needs_raw_keys``; masks keep using true positions."""
        return None


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


class Segment(ABC):
    """Stored keys and values in some form. Never modified; rows and heads may hold different counts. Tensors may be shared with other
    segments, of other layers too: they are counted and saved once, if `tensors` gives the same object each time."""

    kinds: ClassVar[dict[str, type[Segment]]] = {}  # by class name: what a saved context may name
    counts: Tensor  # [B, H] tokens, on the CPU

    def __init_subclass__(cls) -> None:
        Segment.kinds[cls.__name__] = cls

    @property
    def kind(self) -> type[Segment]:
        """The class that `restore` belongs to; a segment that wraps another gives the inner one's."""
        return type(self)

    @abstractmethod
    def flat(self) -> Flat:
        """As plain tensors again (for a lossy form: what reading gives)."""

    @abstractmethod
    def rows(self, index: Tensor) -> Segment:
        """Batch rows ``index`` [B']."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that is held, for counting bytes and for saving."""

    @classmethod
    @abstractmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Segment:
        """A segment from what `tensors` gave, for loading and moving."""

    def prefetch(self) -> None:  # noqa: B027 - most lie where they are used
        """The layer before this one is running: start bringing the content back."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What a policy sees when tokens of one layer are packed. ``watched()`` gives the last queries of the prompt [B, Hq, w, D], turned as
    the layer's keys are held, with their positions [B, w] (−1: none); w = `CachePolicy.query_window`."""

    info: ModelInfo
    layer: LayerInfo
    watched: Callable[[], tuple[Tensor, Tensor]]


Encode = Callable[[Flat, Packing], Segment]


class Quantiser(CachePolicy):
    """Packs tokens. The engine keeps at least ``residual_tokens`` recent ones as they are and hands over the older ones in whole
    groups of ``group_tokens`` per row and head, in order of position."""

    residual_tokens: int
    group_tokens: int

    @abstractmethod
    def encode(self, flat: Flat, at: Packing) -> Segment:
        """Packed; every count in ``flat.counts`` is a multiple of ``group_tokens``."""


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


class Mover(CachePolicy):
    """Says where held tensors lie between uses. New tokens stay where they are until there are ``group_tokens`` of them."""

    group_tokens: int

    @abstractmethod
    def put(self, segment: Segment, device: torch.device) -> Segment:
        """The same content, placed; `Segment.flat` brings it back to ``device``."""


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


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Tokens ``ids`` [B, n] with ``mask`` [B, n] (0: padding, in front) at true ``positions`` [B, n]."""

    ids: Tensor
    mask: Tensor
    positions: Tensor


@dataclass(frozen=True, kw_only=True)
class Feed:
    """A context that is to be read. ``whole`` are its tokens at the positions they would have in order. ``starts`` are the columns at which
    its parts begin, if the caller knows them (what stands before the first is a common prefix).

    ``step(piece)`` reads a piece behind what is held. ``apart(pieces)`` reads each behind what is held now and unseen by the others, and
    then holds them all; rows go on behind the farthest position. ``keep(states)`` puts tensors [B, …] into the policy's state in every
    layer with full attention.
    """

    whole: Piece
    starts: tuple[int, ...]
    step: Callable[[Piece], None]
    apart: Callable[[Sequence[Piece]], None]
    keep: Callable[[State], None]


class Prefill(CachePolicy):
    """Says how the first context of a cache is fed, where the driver would feed it in order and in chunks; and, if it must, how what was
    fed is weighed later."""

    @abstractmethod
    def feed(self, feed: Feed) -> None:
        """Call ``feed.step`` and ``feed.apart`` for all pieces, in the order they should be stored."""

    def weighs(self, state: State) -> bool:
        """Whether `weigh` changes anything for this layer."""
        return False

    def weigh(self, logits: Tensor, k_pos: Tensor, state: State) -> Tensor:
        """Logits [B, Hq, n, L] (−inf where hidden), given the true positions ``k_pos`` [B, 1 or H, L], as they should enter the softmax."""
        return logits


class Codec(CachePolicy):
    """Says how saved tensors are written and read, where plain safetensors would do. Both must be exact about names and shapes."""

    @abstractmethod
    def write(self, folder: Path, tensors: dict[str, Tensor]) -> list[str]:
        """Write all tensors into ``folder``; the names of the files made."""

    @abstractmethod
    def read(self, folder: Path) -> dict[str, Tensor]:
        """What was written, on the CPU."""


def top_of_each_head(scores: Tensor, counted: Tensor, budget: Tensor) -> Tensor:
    """The best ``budget`` [B] of each row and head among ``counted`` [B, H, L]; earlier tokens win ties."""
    order = scores.masked_fill(~counted, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(-1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order))
    return counted & (rank < budget[:, None, None])


class PlainSegment(Segment):
    """Kept tokens as they are, end to end."""

    def __init__(self, flat: Flat) -> None:
        self._flat = flat
        self.counts = flat.counts

    def flat(self) -> Flat:
        return self._flat

    def rows(self, index: Tensor) -> Segment:
        return PlainSegment(self._flat.rows(index))

    def tensors(self) -> dict[str, Tensor]:
        f = self._flat
        return {"keys": f.keys, "values": f.values, "positions": f.positions, "counts": f.counts}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> PlainSegment:
        return cls(Flat(**tensors))


def options_of(part: Any) -> str:
    """How a report names a technique."""
    return f"{part.card.name}({', '.join(f'{k}={v!r}' for k, v in part.options().items() if v is not None)})"
