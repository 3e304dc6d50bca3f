"""HiP: a tree search finds the key blocks that a block of queries matches best, halving spans of keys until they are blocks.

Paper: Lee and others, 2024, "A Training-free Sub-quadratic Cost Transformer Model Serving Framework with Hierarchically Pruned
Attention", arXiv 2406.09827; reference code read: DeepAuto-AI/hip-attention, the readable search of v1.1.

Idea: the keys before a block of queries are cut into budget / ``k_tokens`` equal spans. Every round halves each span, scores a half by the
largest product of the sampled queries (every ``stride``-th) with the keys of its first block, and keeps the best half of the halves; after
about log2(keys / budget) rounds spans are single blocks. These, the nearest ``local_tokens`` and the first ``sink_tokens`` are read. A step
of decoding searches with its one query and keeps what it found for ``refresh_steps`` steps.

Departs from the paper: query heads that share keys search together, as one block of queries (the reference code has this as an option).
SparQ's thinned channels are not built. Blocks of 32 queries and 2 keys are the paper's; with 8 keys there are a quarter as many spans to
begin with, and needles were lost (`notes/sparse-prefill.md`).

The first ``dense_layers`` layers read everything: 3 is the default of the reference's evaluation and what its scripts set for 32 layers
(4 for 40).

Shapes and units: tokens; key blocks [B, H, nQ, budget / k_tokens]. With no more keys than the budget everything is read.

Cost: 2 · budget keys scored a round and block of queries, so O(T log T) over a prompt; a step reads budget + local + sink keys.

Errors: ConfigError for options below 1 and for a budget below one block.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from baywindow.budget import Budgeted
from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.blocks import BlockSelection
from baywindow.window.flash import tile_for
from baywindow.window.patterns.base import BlockPattern, Glance

AT_ONCE = 2**23  # scores held at a time


@technique(
    summary="a tree search over spans of keys finds the blocks that a block of queries needs",
    paper="arXiv:2406.09827",
    year=2024,
    needs=("weights", "kv"),
    claim="With 512 searched keys a query block, perplexity stays near dense and better than a window of equal budget.",
    departures=(
        "query heads that share keys search together: what they read is gathered once (an option of the reference code)",
        "no thinned channels (SparQ) in the search: they need keys stored a second time, by channel",
    ),
)
class HiP(Budgeted, BlockPattern):
    decodes: ClassVar[bool] = True
    default_budget_tokens: ClassVar[int] = 512

    local_tokens: int = 128
    sink_tokens: int = 16
    q_tokens: int = 32
    k_tokens: int = 2
    stride: int = 2
    refresh_steps: int = 8
    dense_layers: int = 3  # the first layers attend to everything, as in the reference code

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("q_tokens", "k_tokens", "stride", "refresh_steps"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        for name in ("local_tokens", "sink_tokens", "dense_layers"):
            if getattr(self, name) < 0:
                raise ConfigError.bad_value(name, getattr(self, name), "0 or more")
        if self.budget_tokens is not None and self.budget_tokens < self.k_tokens:
            raise ConfigError.bad_value("budget_tokens", self.budget_tokens, f"at least one block of k_tokens={self.k_tokens}")

    def select(self, glance: Glance) -> BlockSelection | None:
        budget = self.budget_of(glance.length)
        if glance.layer.index < self.dense_layers or budget + self.local_tokens + self.sink_tokens >= glance.length:
            return None
        kept = max(1, budget // self.k_tokens)
        if glance.n > 1:
            glance.state.clear()
            found = self._search(glance, kept)
        else:
            found = self._remembered(glance, kept)
        blocks = torch.cat([found, self._always(glance, found)], dim=-1)
        return BlockSelection(blocks=blocks, q_tokens=self.q_tokens, k_tokens=self.k_tokens, fill=tile_for(min(self.q_tokens, glance.n)))

    def _remembered(self, glance: Glance, kept: int) -> Tensor:
        """What a step reads: searched anew every ``refresh_steps`` steps."""
        state = glance.state
        if "age" not in state or bool((state["age"] % self.refresh_steps == 0).any()):
            state["blocks"] = self._search(glance, kept)
            state["age"] = torch.zeros(glance.q.shape[0], 1, dtype=torch.long, device=glance.q.device)
        state["age"] = state["age"] + 1
        return state["blocks"]

    def _always(self, glance: Glance, found: Tensor) -> Tensor:
        """The nearest and the first blocks of every query block: int64 [B, H, nQ, m]."""
        start = torch.arange(glance.offset, glance.length, self.q_tokens, device=found.device)[:, None]
        count = -(-(self.local_tokens + self.k_tokens - 1) // self.k_tokens)
        near = (start - 1) // self.k_tokens - torch.arange(count, device=found.device)
        near = near.masked_fill((near + 1) * self.k_tokens <= start - self.local_tokens, -1)
        sinks = torch.arange(-(-self.sink_tokens // self.k_tokens), device=found.device).expand(len(start), -1)
        return torch.cat([near.clamp(min=-1), sinks], dim=-1).expand(*found.shape[:2], -1, -1)

    def _search(self, glance: Glance, kept: int) -> Tensor:
        """Key blocks of every query block: int64 [B, H, nQ, kept], −1 where there are fewer."""
        found, per_block = [], glance.layer.group * -(-self.q_tokens // self.stride) * 2 * kept * self.k_tokens * glance.k.shape[1]
        together = max(1, AT_ONCE // per_block)
        whole = glance.n - glance.n % self.q_tokens
        for first in [*range(0, whole, together * self.q_tokens), *([whole] if whole < glance.n else [])]:
            last = min(first + together * self.q_tokens, whole) if first < whole else glance.n
            rows = min(self.q_tokens, last - first)
            # Heads that share keys lie in one block: [B, H, blocks, group · sampled rows, D].
            by_block = torch.unflatten(glance.q[:, :, first:last], 2, (-1, rows))
            q = torch.unflatten(by_block, 1, (glance.k.shape[1], -1)).transpose(2, 3)
            q = q[..., (1 if rows > 1 else 0) :: self.stride, :].flatten(3, 4)
            starts = torch.arange(glance.offset + first, glance.offset + last, self.q_tokens, device=q.device)
            blocks = ((starts - self.local_tokens).clamp(min=0)) // self.k_tokens
            found.append(tree_search(q, glance.k, blocks, kept, self.k_tokens))
        return torch.cat(found, dim=2)

    def cost(self, shape: Shape) -> Cost:
        budget, n = min(self.budget_of(shape.prompt_tokens), shape.prompt_tokens), shape.prompt_tokens
        rounds = max(0, math.ceil(math.log2(max(1, n) / budget)))
        read = min(n, budget + self.local_tokens + self.sink_tokens)
        dense = min(self.dense_layers, shape.layers)
        acting, one = shape.layers - dense, shape.token_bytes // max(1, shape.layers)
        whole = shape.attention_flops(n // self.stride, 2 * budget) // 2 * rounds  # products with keys only
        flops = whole * acting // max(1, shape.layers)
        return Cost(flops=flops, bytes_kept=n * shape.token_bytes, bytes_read=(dense * n + acting * read) * one)


def tree_search(q: Tensor, k: Tensor, counts: Tensor, kept: int, k_tokens: int) -> Tensor:
    """The ``kept`` blocks among the first ``counts`` [nQ] that queries ``q`` [B, H, nQ, S, D] match best by halving: int64
    [B, H, nQ, kept], ascending, −1 (in front) where there are fewer. ``k`` [B, H, L, D]; block j holds the keys from j · k_tokens on."""
    B, H, nQ = q.shape[:3]
    j = torch.arange(kept, device=q.device)
    many = counts[:, None] > kept
    start = torch.where(many, counts[:, None] * j // kept, j)
    size = torch.where(many, counts[:, None] * (j + 1) // kept - start, (j < counts[:, None]).long())
    start, size = (t.expand(B, H, nQ, kept) for t in (start, size))
    blocks = torch.unflatten(k[:, :, : k.shape[2] - k.shape[2] % k_tokens], 2, (-1, k_tokens))  # [B, H, nK, k_tokens, D]
    for _ in range(max(0, math.ceil(math.log2(max(1.0, float(counts.max()) / kept))))):
        middle = start + size // 2
        starts, sizes = torch.cat([start, middle], dim=-1), torch.cat([middle - start, start + size - middle], dim=-1)
        scores = first_block_scores(q, blocks, starts).masked_fill(sizes < 1, -torch.inf)
        chosen = scores.topk(kept, dim=-1).indices
        start, size = starts.gather(-1, chosen), sizes.gather(-1, chosen)
    return torch.where(size > 0, start, -1).sort(dim=-1).values


def first_block_scores(q: Tensor, blocks: Tensor, starts: Tensor) -> Tensor:
    """The largest product of any query [B, H, nQ, S, D] with any key of the blocks at ``starts`` [B, H, nQ, m]: float32 [B, H, nQ, m]."""
    B, H, nQ, m = starts.shape
    base = torch.arange(B * H, device=starts.device).view(B, H, 1, 1) * blocks.shape[2]
    at = (starts.clamp(max=blocks.shape[2] - 1) + base).flatten()
    keys = blocks.flatten(0, 2).flatten(1).index_select(0, at).view(B, H, nQ, -1, blocks.shape[-1])
    return torch.unflatten((q @ keys.transpose(-1, -2)).amax(dim=-2), -1, (m, -1)).amax(dim=-1).float()
