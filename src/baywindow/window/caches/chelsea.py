"""Chelsea: merge tokens whose keys point the same way, chunk by chunk, after the prompt and while generating.

Paper: Hu and others, 2025, "Efficient Long-Context LLM Inference via KV Cache Clustering", arXiv 2506.11418; no public code was found.

Idea: keys of neighbours resemble each other. The tokens of a head are cut into chunks of ``chunk_tokens``; inside a chunk every second
token looks for the most similar among the others (bipartite matching, as vision models merge tokens). The most similar pairs merge
until the budget is met; several tokens may merge into one. A merged token's key and value are the mean of those of its tokens. Rounds
repeat while more must go, for one round can at most halve the tokens.

Departs from the paper: the text that could be read leaves these open, and they are decided so. Similarity is the cosine of rotated keys.
A merged token counts as often as it has tokens, in later means and in attention (the logarithm of its count is added to its
logits), since k equal tokens get k times the weight of one. The first ``sink_tokens`` and the last ``recent_tokens`` (at most half of
the budget) do not merge. While generating, tokens are merged down to ``slack_tokens`` (at most a sixteenth of the budget) below the
budget at once, so that most steps cost nothing.

Shapes and units: tokens per key/value head; a merged token keeps the position of the later half of its match.

Cost: a round is O(tokens · chunk · dim), linear in the length.

Errors: ConfigError for a chunk that is odd or below 2; RecipeError beside what acts on tokens at rest (a quantiser, an allocator, a
mover). A sequence within the budget is left as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from baywindow.budget import Budgeted
from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import LOG_TOKENS, Block, rows_of_heads
from baywindow.window.caches._cost import budgeted_cost
from baywindow.window.caches.base import Allocator, Moment, Mover, Phase, Reducer


@technique(
    summary="merge neighbouring tokens whose keys are alike, after the prompt and while generating",
    paper="arXiv:2506.11418",
    year=2025,
    needs=("weights", "kv"),
    claim="Merging alike keys within chunks stays closer to full attention than dropping the same number of tokens, at linear cost.",
    departures=(
        "similarity is the cosine of rotated keys: the text that could be read does not say",
        "a merged token counts as often as it has tokens, in means and in attention: k equal tokens weigh k times one",
        "first and recent tokens do not merge, and generation merges several tokens at once: the text leaves both open",
    ),
    slot="reduce",
)
class Chelsea(Reducer, Budgeted):
    when: ClassVar[frozenset[Phase]] = frozenset({"prefill", "decode"})

    chunk_tokens: int = 64  # c
    sink_tokens: int = 4
    recent_tokens: int = 32
    slack_tokens: int = 64  # merged below the budget at once while generating

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunk_tokens < 2 or self.chunk_tokens % 2:
            raise ConfigError.bad_value("chunk_tokens", self.chunk_tokens, "even and at least 2")
        for name in ("sink_tokens", "recent_tokens", "slack_tokens"):
            if getattr(self, name) < 0:
                raise ConfigError.bad_value(name, getattr(self, name), "0 or more")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        super().check_with(others)
        if other := next((o for o in others if isinstance(o, Mover | Allocator)), None):
            raise RecipeError(
                f"{self.card.name} and {other.card.name} cannot stand in one recipe: {self.card.name} merges tokens while it generates and "
                "keeps a count beside each, so they must stay where they are",
                hint="choose a cache that acts once after the prompt, e.g. snapkv",
            )

    def idle(self, length: int, seen: Tensor) -> bool:
        return length <= min(self.budget_of(n) for n in seen.tolist())

    def reduce(self, moment: Moment, block: Block, allocator: Allocator | None) -> Block:
        budget = torch.tensor([self.budget_of(int(n)) for n in moment.seen.tolist()], device=block.keys.device)[:, None]
        protected = moment.protected(block)
        excess = self._excess(block, protected, budget)
        if not bool((excess > 0).any()):
            return block
        slack = (budget // 16).clamp(max=self.slack_tokens) if moment.phase == "decode" else 0
        target = torch.where(excess > 0, budget - slack, budget)
        while bool(((excess := self._excess(block, protected, target)) > 0).any()):
            free = self._free(block, protected, budget)
            merged = merge_round(block, moment.keys(block), free, excess, self.chunk_tokens)
            if merged.length == block.length and bool((merged.held == block.held).all()):
                break  # nothing is left that may merge
            block, protected = merged, moment.protected(merged)
        return block

    def _excess(self, block: Block, protected: Tensor, target: Tensor) -> Tensor:
        """How many tokens too many each row and head holds: [B, H]."""
        return ((block.head_positions >= 0) & ~protected).sum(dim=-1) - target

    def _free(self, block: Block, protected: Tensor, budget: Tensor) -> Tensor:
        """Which tokens may merge: bool [B, H, L]."""
        counted = (block.head_positions >= 0) & ~protected
        rank = counted.long().cumsum(dim=-1) - 1
        sinks = (budget // 4).clamp(max=self.sink_tokens)[..., None]
        recent = (budget // 2).clamp(max=self.recent_tokens)[..., None]
        return counted & (rank >= sinks) & (rank < counted.sum(dim=-1, keepdim=True) - recent)

    def cost(self, shape: Shape) -> Cost:
        pairs = shape.prompt_tokens * self.chunk_tokens // 4  # of the first round; each further one has at most half of them
        return budgeted_cost(self, shape, 4 * shape.layers * shape.kv_heads * shape.head_dim * pairs)


def merge_round(block: Block, keys: Tensor, free: Tensor, excess: Tensor, chunk: int) -> Block:
    """Match the ``free`` tokens of each chunk and merge the ``excess`` [B, H] most similar pairs. ``keys`` [B, H, L, D] are compared,
    the block's own are merged."""
    count = int(free.sum(dim=-1).max())
    if count < 2:
        return block
    chunk = min(chunk, count + count % 2)
    size = -(-count // chunk) * chunk
    order = (~free).long().argsort(dim=-1, stable=True)[..., :size]  # free slots first, as they stand
    order = pad(order, (0, size - order.shape[-1]))
    there = torch.arange(size, device=free.device) < free.sum(dim=-1, keepdim=True)
    similar, target = best_matches(rows_of_heads(keys, order), there, chunk)
    rank = similar.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)
    goes = (rank < excess[..., None]) & similar.isfinite()
    return _merge(block, order[..., 0::2], order.gather(-1, target), goes)


def best_matches(keys: Tensor, there: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """For every even place of ``keys`` [B, H, n, D] the odd place of its chunk that is most alike: cosine float32 [B, H, n / 2] (−inf: no
    partner), place int64. Places that are not ``there`` take no part."""
    B, H, n, D = keys.shape
    chunks = normalize(keys.float(), dim=-1).view(B, H, n // chunk, chunk, D)
    alive = there.view(B, H, n // chunk, chunk)
    similar = chunks[..., 0::2, :] @ chunks[..., 1::2, :].transpose(-1, -2)
    similar = similar.masked_fill(~(alive[..., 0::2, None] & alive[..., None, 1::2]), -torch.inf)
    best, at = similar.max(dim=-1)
    first = torch.arange(n // chunk, device=keys.device)[:, None] * chunk
    return best.flatten(2), (first + 2 * at + 1).flatten(2)


def _merge(block: Block, source: Tensor, target: Tensor, goes: Tensor) -> Block:
    """Each slot of ``source`` [B, H, m] that ``goes`` is merged into its ``target``; means are weighted by how many tokens each side is."""
    log_tokens = block.tags.get(LOG_TOKENS)
    tokens = block.keys.new_ones(block.keys.shape[:3], dtype=torch.float32) if log_tokens is None else log_tokens.exp()
    weight = tokens.gather(-1, source) * goes
    total = tokens.scatter_add(-1, target, weight)
    gone = torch.zeros_like(total).scatter_add_(-1, source, goes.float()) > 0

    def mean(x: Tensor) -> Tensor:
        index = target[..., None].expand(-1, -1, -1, x.shape[-1])
        moved = rows_of_heads(x, source).float() * weight[..., None]
        sums = (x.float() * tokens[..., None]).scatter_add_(2, index, moved)
        return torch.where((total > tokens)[..., None], (sums / total[..., None]).to(x.dtype), x)

    merged = replace(
        block, keys=mean(block.keys), values=mean(block.values), positions=block.head_positions,
        tags={**block.tags, LOG_TOKENS: total.log()},
    )  # fmt: skip
    return merged.keep(~gone)
