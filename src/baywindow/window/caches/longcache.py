"""LongCache (ReAttention): full attention to the first tokens, the last ones, and spans of the middle found without positions.

Paper: Liu and others, 2024, "Farewell to Length Extrapolation, a Training-Free Infinite Context with Finite Attention Scope", arXiv
2407.15176 (later named ReAttention); reference code read: OpenMOSS/ReAttention.

Idea: keys are kept un-rotated. Before attending, every query head names the ``top_tokens`` middle tokens with the largest un-rotated
product; the queries of a piece of ``chunk_tokens`` pool their votes over all heads, the ``recall_tokens`` with most votes stay, each
widened to a span of ``span_tokens``. First tokens, spans and last tokens are numbered 0, 1, 2, … and attended to as a short text, so
no distance exceeds what the model was trained for, however long the text is.

Departs from the paper: the last tokens are exactly ``local_tokens``, those of the piece included, where the code trims them to fit its
kernel's blocks. Where a piece votes for fewer tokens than may stay, fewer stay. Tokens with equally many votes: the earlier stay.
Positions are always numbered anew (the code's switch for that is off by default, against the paper).

Shapes and units: tokens, one choice for all heads of a layer; at most ``global_tokens`` + ``recall_tokens`` · ``span_tokens`` +
``local_tokens`` are attended to. Keep that below the trained window.

Cost: un-rotated products of every query with every middle key, O(query heads · tokens · dim) a query; nothing is freed.

Errors: ConfigError for counts below 1; RecipeError beside a cache whose heads hold unequal numbers of tokens.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import UNLIMITED_TOKENS, Cost, Shape
from baywindow.window.caches._renumber import by_rank
from baywindow.window.caches._slots import first_slots
from baywindow.window.caches.base import Allocator, CachePolicy
from baywindow.window.positions.base import Asked
from baywindow.window.recall import Held, Lookup, Phase, Recaller

ROWS = 64  # queries whose products with the middle are held at once


@technique(
    summary="attend to first and last tokens and to spans between them found without positions",
    paper="arXiv:2407.15176",
    year=2024,
    needs=("weights", "kv"),
    claim="With a fixed number of tokens attended to, a model finds a needle in texts many times its trained length.",
    departures=(
        "the last tokens are exactly local_tokens: the code trims them to fit its kernel's blocks",
        "positions are always numbered anew, as in the paper; the code's switch for that is off by default",
    ),
    slot="recall",
)
class LongCache(CachePolicy, Recaller):
    needs_raw_keys: ClassVar[bool] = True

    global_tokens: int = 32
    local_tokens: int = 4096
    top_tokens: int = 4  # each query head names
    recall_tokens: int = 96  # with most votes stay
    span_tokens: int = 32  # around each of them
    chunk_tokens: int = 512  # queries of a prompt that choose together

    def __post_init__(self) -> None:
        for name in self.options():
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if sharer := next((o for o in others if isinstance(o, Allocator)), None):
            raise RecipeError(
                f"{self.card.name} and {sharer.card.name} cannot stand in one recipe: numbering positions anew needs heads that hold "
                "equally many tokens",
                hint="choose a cache with the same budget in every head, e.g. snapkv",
            )

    def reach(self, trained_tokens: int) -> int:
        return UNLIMITED_TOKENS

    def lookup_queries(self, phase: Phase, n: int) -> int:
        return self.chunk_tokens

    def renumber(self, asked: Asked) -> tuple[Tensor, Tensor] | None:
        """While true positions fit into first and last tokens, they stay: nothing is further away than it would be anyway."""
        return by_rank(asked) if asked.longest > self.global_tokens + self.local_tokens else None

    def learn(self, held: Held) -> None:
        """Nothing: lookups compare with the keys themselves."""

    def recall(self, asked: Lookup) -> Tensor | None:
        L, n = asked.block.length, asked.queries.shape[2]
        recent = max(self.local_tokens, n)
        if self.global_tokens + recent >= L:
            return None
        here = (asked.block.head_positions >= 0)[:, :1]
        middle = here & (here.long().cumsum(dim=-1) > self.global_tokens)
        middle[..., L - recent :] = False
        chosen = self._spans(self._votes(asked, middle), middle)
        spans = first_slots(chosen, int(chosen.sum(dim=-1).max()))
        local = torch.arange(L - recent, L, device=here.device).expand(here.shape[0], 1, -1)
        local = torch.where(here.gather(-1, local), local, -1)
        return torch.cat([first_slots(here, self.global_tokens), spans, local], dim=-1)

    def _votes(self, asked: Lookup, middle: Tensor) -> Tensor:
        """How often each slot was named, by all queries and heads: int64 [B, 1, L]."""
        keys, layer = asked.block.keys.float(), asked.layer
        B, H, L, D = keys.shape
        hidden = ~middle[:, :, None]
        named = torch.zeros(B, L, dtype=torch.long, device=keys.device)
        top = min(self.top_tokens, L)
        for start in range(0, asked.queries.shape[2], ROWS):
            q = asked.queries[:, :, start : start + ROWS]
            products = (q.float().reshape(B, H, -1, D) @ keys.transpose(2, 3)).masked_fill_(hidden, -torch.inf)
            best = products.topk(top, dim=-1)
            real = (asked.q_pos[:, None, None, start : start + ROWS] >= 0).expand(B, H, layer.group, -1).reshape(B, H, -1, 1)
            counts = (real & best.values.isfinite()).long()
            named.scatter_add_(1, best.indices.flatten(1), counts.flatten(1))
        return named[:, None]

    def _spans(self, votes: Tensor, middle: Tensor) -> Tensor:
        """The most voted slots and what stands around them: bool [B, 1, L]."""
        order = votes.argsort(dim=-1, descending=True, stable=True)[..., : self.recall_tokens]
        most = torch.zeros_like(votes).scatter_(-1, order, (votes.gather(-1, order) > 0).long())
        before = (self.span_tokens - 1) // 2
        padded = torch.nn.functional.pad(most.float(), (self.span_tokens - 1 - before, before))
        return (max_pool1d(padded, self.span_tokens, stride=1) > 0) & middle

    def cost(self, shape: Shape) -> Cost:
        most = self.global_tokens + self.recall_tokens * self.span_tokens + self.local_tokens
        scored = shape.prompt_tokens**2 // 2 + shape.generated_tokens * shape.prompt_tokens
        flops = 2 * shape.layers * shape.q_heads * shape.head_dim * scored
        kept = shape.prompt_tokens * shape.token_bytes
        return Cost(flops=flops, bytes_kept=kept, bytes_read=min(most, shape.prompt_tokens) * shape.token_bytes + kept // 2)
