"""Vertical-slash: the last queries of a piece find the columns and diagonals that matter, and only those are read.

Paper: Jiang and others, 2024, "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention", arXiv
2407.02490; with budgets refined by attention recall as in Yang and others, 2025, "Qwen2.5-1M Technical Report", arXiv 2501.15383, whose
sparse prefill this is (with ``dual_chunk`` the preset ``qwen_1m``). Reference code read: microsoft/MInference and vLLM.

Idea: the attention of the last ``last_tokens`` queries is summed down columns (keys that many queries want) and along diagonals
(distances that many queries want). Each head reads its best columns, one by one, and the blocks that its best diagonals touch, for all
queries of the piece; the first tokens and the nearest distances always. How a head's budget is shared between the two, and how much of it
is used, follows from the share of the last queries' attention it would catch (recall): the smallest of a quarter, half or all of the
budget whose best split reaches ``recall``.

Departs from the paper: both reports fix the sizes of every head offline, MInference by a search and Qwen2.5-1M by raising them where
recall falls short on long calibration texts. Here the same two choices are made for every piece, from the map that is computed anyway:
no calibration, and no sizes that ship with a model. Columns and diagonals are taken to overlap as if independent when recall is
estimated.

Shapes and units: tokens; weights [B, Hq, w, L]. A query reads at most its budget, in whole tiles, besides its own block of ``q_tokens``;
``budget_fraction`` is of the keys that an average query of the piece could see. Decoding reads everything, as published.

Cost: one w × L map and four passes over it a piece; then attention over the budget instead of all. The map takes 4 · Hq · w · L bytes.

Errors: ConfigError for options below 1 and for a recall outside (0, 1].
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from baywindow.budget import Budgeted
from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape, group_mean
from baywindow.window.blocks import BlockSelection
from baywindow.window.flash import tile_for
from baywindow.window.patterns.base import BlockPattern, Glance

LEVELS = (0.25, 0.5, 1.0)  # of the budget
SPLITS = (0.125, 0.25, 0.5, 0.75)  # of a level: what columns get


@technique(
    summary="the last queries find the columns and diagonals that a prompt's attention needs",
    paper="arXiv:2407.02490, arXiv:2501.15383",
    year=2024,
    needs=("weights", "kv"),
    claim="Prefill over a small share of the pairs stays near dense accuracy, and needles are kept, at several times the speed.",
    departures=(
        "sizes of each head are chosen for every piece by the recall on its last queries, not offline: nothing to calibrate",
        "query heads that share keys share a choice unless by_group=False: what they read is gathered once, several times as fast",
        "recall takes columns and diagonals to overlap as if independent: one pass over the map instead of one for every split",
    ),
)
class VerticalSlash(Budgeted, BlockPattern):
    default_budget_tokens: ClassVar[int] = 7096  # MInference's default of 1,000 columns and 6,096 diagonals

    recall: float = 0.95
    last_tokens: int = 64
    first_tokens: int = 30
    near_tokens: int = 100
    q_tokens: int = 128
    k_tokens: int = 16
    by_group: bool = True  # query heads that share keys share a choice, as their mean map would make it

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("last_tokens", "first_tokens", "near_tokens", "q_tokens", "k_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        if not 0 < self.recall <= 1:
            raise ConfigError.bad_value("recall", self.recall, "above 0 and at most 1")

    def select(self, glance: Glance) -> BlockSelection | None:
        n, length = glance.n, glance.length
        visible = length if self.budget_tokens is not None else glance.offset + (n + 1) // 2
        budget = self.budget_of(visible)
        if budget >= visible:
            return None
        queries = min(self.last_tokens, n)
        weights = last_weights(glance, queries)
        if self.by_group:
            weights = group_mean(weights, glance.layer.kv_heads)
        columns, diagonals = sums(weights)
        down = best(columns / queries, self.first_tokens, budget)
        along = best(diagonals / queries, self.near_tokens, min(self.near_tokens, length) + budget)
        kept, wanted = self._sizes(down, along, budget, length)
        picked = along.order.masked_fill(_ranks(along.order) >= wanted[..., None], length)
        chosen = torch.zeros(*diagonals.shape[:2], length + 1, dtype=torch.bool, device=diagonals.device).scatter_(-1, picked, True)
        return BlockSelection.of_mask(
            diagonal_blocks(chosen[..., :length], n, self.q_tokens, self.k_tokens),
            q_tokens=self.q_tokens,
            k_tokens=self.k_tokens,
            columns=down.order.masked_fill(_ranks(down.order) >= kept[..., None], -1)[..., : int(kept.max())],
            fill=tile_for(self.q_tokens),
        )

    def _sizes(self, down: Best, along: Best, budget: int, length: int) -> tuple[Tensor, Tensor]:
        """How many columns and how many diagonals each head reads: int64 [B, Hq] both."""
        counts = diagonal_counts(min(self.near_tokens, length), along.order.shape[-1])
        reach = self.q_tokens + self.k_tokens - 1  # keys that one diagonal touches before a block of queries, at most
        tokens = torch.stack([covered(along.order[..., :count], length, reach) for count in counts], dim=-1)  # [B, Hq, counts]
        at = torch.tensor(counts, device=tokens.device)
        rows: list[Tensor] = []  # by level and split: recall, columns, diagonals, each [B, Hq]
        for level in LEVELS:
            for split in SPLITS:
                kept = max(1, min(int(level * budget * split), down.order.shape[-1]))
                fitting = at[(tokens <= level * budget - kept).sum(dim=-1).clamp(min=1) - 1]  # the near ones always
                missed = (1 - down.caught[..., kept - 1]) * (1 - along.caught.gather(-1, fitting[..., None] - 1)[..., 0])
                rows.append(torch.stack([1 - missed, torch.full_like(missed, kept), fitting.to(missed)]))
        table = torch.unflatten(torch.stack(rows), 0, (len(LEVELS), len(SPLITS)))  # [level, split, 3, B, Hq]
        split_of = table[:, :, 0].argmax(dim=1)[:, None, None].expand(-1, -1, 3, -1, -1)
        by_level = table.gather(1, split_of)[:, 0]  # [level, 3, B, Hq]
        enough = by_level[:, 0] >= self.recall
        enough[-1] = True
        level_of = enough.to(torch.uint8).argmax(dim=0)[None, None].expand(1, 2, -1, -1)
        sizes = by_level[:, 1:].gather(0, level_of)[0].long()
        return sizes[0], sizes[1]

    def cost(self, shape: Shape) -> Cost:
        kept = shape.prompt_tokens * shape.token_bytes
        return Cost(flops=shape.attention_flops(self.last_tokens, shape.prompt_tokens) // 2, bytes_kept=kept, bytes_read=kept)


def last_weights(glance: Glance, queries: int) -> Tensor:
    """Attention of the last ``queries`` queries over everything: float32 [B, Hq, queries, L]."""
    logits = glance.logits(glance.n - queries, glance.n)
    future = torch.ones(queries, queries, dtype=torch.bool, device=logits.device).triu_(1)
    logits[..., glance.length - queries :].masked_fill_(future, -torch.inf)
    return torch.softmax(logits, dim=-1)


def sums(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Of weights [B, h, w, L] whose rows are the last w ranks: the sum of every column, by key, and of every diagonal, by its distance
    from the query. Both [B, h, L]."""
    w, L = weights.shape[2:]
    wide = torch.nn.functional.pad(weights, (w, 0))
    # One step more than a row's length slides along a diagonal; the slice that starts at u holds distance L − 1 − u.
    slanted = wide.as_strided((*wide.shape[:2], w, L), (*wide.stride()[:2], L + w + 1, 1), 1)
    return weights.sum(dim=2), slanted.sum(dim=2).flip(-1)


class Best(NamedTuple):
    """Columns or diagonals, best first: which (``order``), and the share of attention that the first 1, 2, … hold (``caught``). Both
    [B, h, m]."""

    order: Tensor
    caught: Tensor


def best(mass: Tensor, forced: int, most: int) -> Best:
    """The ``most`` best of ``mass`` [B, h, L], the first ``forced`` of them before all others."""
    preferred = mass.clone()
    preferred[..., :forced] = torch.inf
    order = preferred.topk(min(max(most, 1), mass.shape[-1]), dim=-1).indices
    return Best(order, mass.gather(-1, order).cumsum(dim=-1))


def diagonal_counts(near: int, most: int) -> list[int]:
    """Numbers of diagonals to consider, from the near ones alone by half more each time."""
    counts = [near]
    while counts[-1] < most:
        counts.append(min(most, counts[-1] + max(4, counts[-1] // 2)))
    return counts


def covered(offsets: Tensor, length: int, reach: int) -> Tensor:
    """How many keys a block of queries reads for the distances ``offsets`` [B, h, s]: each stands for ``reach`` keys in a row."""
    flags = torch.zeros(*offsets.shape[:2], length + reach, dtype=torch.int32, device=offsets.device).scatter_(-1, offsets, 1)
    until = flags.cumsum(dim=-1, dtype=torch.int32)
    until[..., reach:] -= until[..., :-reach].clone()
    return (until > 0).sum(dim=-1)


def _ranks(order: Tensor) -> Tensor:
    return torch.arange(order.shape[-1], device=order.device)


def diagonal_blocks(chosen: Tensor, n: int, q_tokens: int, k_tokens: int) -> Tensor:
    """Blocks that the distances ``chosen`` (bool [B, h, L]) touch, for the last n of L queries: bool [B, h, nQ, nK]."""
    length = chosen.shape[-1]
    until = torch.nn.functional.pad(chosen.long().cumsum(dim=-1), (1, 0))  # how many are chosen below a distance
    start = torch.arange(length - n, length, q_tokens, device=chosen.device)[:, None]
    first = torch.arange(0, length, k_tokens, device=chosen.device)[None, :]
    least = (start - (first + k_tokens - 1)).clamp(0, length)  # the block's last key from the first query
    most = (torch.clamp(start + q_tokens, max=length) - first).clamp(0, length)  # its first key from the last query, and one more
    return until[..., most] > until[..., least]
