"""The contract of recall: nothing is dropped, but a query reads only the held tokens that a technique looks up for it.

Caches (`clusterkv`) and patterns (`infllm`) alike may be recallers: a class takes `Recaller` beside the base of its room. The engine asks
for an index, gathers just those keys and values, and runs its usual kernels, masks and angles on them: what was not selected is
not read. An index that covers everything gives full attention.

Tokens are named by *slot*: their place in ``block``, oldest first. Slots in use never change under a state: new tokens come behind
them, and where something moves them (a reducer, packing with padding in the batch, tokens taken back) the engine forgets the state,
and `Recaller.learn` is called anew. Sliding layers never reach a recaller.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from baywindow.window.base import InsideTechnique, LayerInfo, ModelInfo, State
from baywindow.window.block import Block

Phase = Literal["prefill", "decode"]


@dataclass(frozen=True, kw_only=True)
class Held:
    """What one layer holds. ``past`` slots of ``block`` (keys as they are held, holes at position −1) were there before the tokens that
    now attend; those stand behind them. ``holes``: some slot may hold nothing.

    ``keys(start, stop)`` are the keys of these slots at their angles [B, H, stop − start, D], however they are held; ``turn(queries,
    q_pos)`` brings queries [B, Hq, n, D] to theirs. ``watched()`` are the last un-rotated queries of the prompt [B, Hq, w, D] with
    their positions [B, w] (−1: none), w = `CachePolicy.query_window`; there are none once the prompt was learned. ``state`` is the
    technique's own for the sequence and layer; it may be written to, and is copied, reordered and saved with the sequence.
    """

    info: ModelInfo
    layer: LayerInfo
    block: Block
    past: int
    holes: bool
    keys: Callable[[int, int], Tensor]
    turn: Callable[[Tensor, Tensor], Tensor]
    watched: Callable[[], tuple[Tensor, Tensor]]
    state: State


@dataclass(frozen=True, kw_only=True)
class Lookup(Held):
    """Held tokens and the queries that ask: ``queries`` [B, Hq, n, D] un-rotated at ``q_pos`` [B, n] (−1: padding); ``turned()`` are the
    same at their angles. The queries' own tokens are the last n slots of ``block``, which ends there."""

    phase: Phase
    queries: Tensor
    q_pos: Tensor
    turned: Callable[[], Tensor]


class Recaller(InsideTechnique):
    """Looks up which held tokens a query reads. One a recipe; it may stand on what a reducer kept of the prompt."""

    lays_apart: ClassVar[bool] = False  # True: what `near_tokens` does not name lies apart from the device, in every recipe
    counts_tokens: ClassVar[bool] = False  # True: its state names tokens by their order, not by slot, and outlives moved slots

    def lookup_queries(self, phase: Phase, n: int) -> int:
        """How many neighbouring queries of ``n`` share one lookup; 0: they attend to everything. By default single steps look up, and
        prompts and questions attend in full. A piece of a prompt is cut at multiples of the number, wherever it begins."""
        return 1 if phase == "decode" and n == 1 else 0

    def near_tokens(self, info: ModelInfo, layer: LayerInfo) -> int | None:
        """How many of the last slots are read by nearly every lookup. Older ones may lie apart (pinned host memory, a mapped file beside a
        CPU), if the technique or a mover of the recipe wants it; then ``block.take`` brings single slots back, and ``block.keys`` and
        `Held.keys` copies of all that they name. None: lookups of this layer go over everything that is held."""
        return None

    @abstractmethod
    def learn(self, held: Held) -> None:
        """Write to ``held.state`` what lookups need of the first ``held.past`` slots. Called once a layer when a prompt is over, at the
        latest before the first lookup in phase ``decode``."""

    def conclude(self, states: list[State]) -> None:
        """All layers have learned; write what takes them together. Called again if one of them had to learn anew."""

    @abstractmethod
    def recall(self, asked: Lookup) -> Tensor | None:
        """Slots to read: int64 [B, H, m], or [B, 1, m] for all heads alike; −1 is a hole. Or bool [B, H, L], true for the slots to read,
        where heads read unequal numbers of them. None: everything.

        The queries' own tokens must be among them, last and in order; nobody may be without any token. Tokens behind a query of the same
        lookup are masked by the engine.
        """


def marked_slots(marked: Tensor) -> Tensor:
    """The slots that are True in bool [B, H, L], in order, with holes (−1) in front of those of shorter heads: int64 [B, H, m]."""
    counts = marked.sum(dim=-1, keepdim=True)
    longest = int(counts.max())
    order = marked.to(torch.uint8).argsort(dim=-1, stable=True)[..., marked.shape[-1] - longest :]
    return torch.where(torch.arange(longest, device=marked.device) >= longest - counts, order, -1)
