"""DHSA: text is cut where its keys change, and blocks of queries read the chunks whose pooled key matches theirs.

Paper: Xiong and others, 2025, "Long-Context Modeling with Dynamic Hierarchical Sparse Attention for On-Device LLMs", arXiv 2510.24606;
reference code read: xiongsiheng/DHSA, its ``legacy`` folder, which holds what the paper describes.

Idea: chunks of varying length follow the text instead of a grid. Queries (averaged over heads) are pooled in blocks of ``q_tokens``, keys
per chunk; a pooled vector is the mean times the root of the number of tokens, so long chunks do not fade. Products of the two rank the
chunks for every block of queries, which reads its nearest ``local_tokens`` and the tokens of the best chunks up to its budget. One
choice serves all heads.

Departs from the paper: its boundaries come from a predictor trained on labels made of key-similarity shifts; there is none for other
models. The rule used here is that label itself: a token starts a chunk if the mean keys of the ``edge_tokens`` before and from it on
differ (one minus their cosine) by more than the average of all tokens, and by more than at every token within ``apart_tokens``. The chunk
that does not fit the budget whole is cut at its end; the reference cuts anywhere, because equal scores have no order. Decoding reads
everything: the paper's gains are in prefill.

Shapes and units: tokens; pooled queries [B, nQ, D], pooled keys [chunks, D] a row.

Cost: one pass over the keys, and nQ × chunks products; a query reads budget + local keys besides its own block.

Errors: ConfigError for options below 1.
"""

from __future__ import annotations

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


@technique(
    summary="chunks that end where keys change; blocks of queries read the chunks that match",
    paper="arXiv:2510.24606",
    year=2025,
    needs=("weights", "kv"),
    claim="At equal budget, chunks that follow the text catch more attention than fixed blocks with plain means.",
    departures=(
        "no trained boundary predictor, which exists for the paper's models only: shifts in key similarity, its labels, cut the text",
        "a chunk that does not fit the budget is cut at its end; the reference code cuts where equal scores happen to fall",
        "decoding reads everything: the paper's gains are in prefill",
    ),
)
class DHSA(Budgeted, BlockPattern):
    default_budget_tokens: ClassVar[int] = 1024

    local_tokens: int = 64
    q_tokens: int = 64
    edge_tokens: int = 4
    apart_tokens: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("q_tokens", "edge_tokens", "apart_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        if self.local_tokens < 0:
            raise ConfigError.bad_value("local_tokens", self.local_tokens, "0 or more")

    def select(self, glance: Glance) -> BlockSelection | None:
        budget = self.budget_of(glance.length)
        if budget + self.local_tokens >= glance.length:
            return None
        queries = pooled_queries(glance.q.float().mean(dim=1), self.q_tokens)
        starts = torch.arange(glance.offset, glance.length, self.q_tokens, device=queries.device)
        ends = (starts - self.local_tokens).clamp(min=0)  # what lies behind is near and read in any case
        mask = torch.zeros(*queries.shape[:2], glance.length, dtype=torch.bool, device=queries.device)
        for b, keys in enumerate(glance.k.float()):
            firsts = boundaries(keys, self.edge_tokens, self.apart_tokens)
            mask[b] = best_chunks(queries[b] @ pooled_keys(keys.mean(dim=0), firsts).T, firsts, ends, budget, glance.length)
        at = torch.arange(glance.length, device=queries.device)
        mask |= (at >= ends[:, None]) & (at < starts[:, None])
        return BlockSelection.of_mask(mask[:, None], q_tokens=self.q_tokens, k_tokens=1, fill=tile_for(self.q_tokens))

    def cost(self, shape: Shape) -> Cost:
        n, kept = shape.prompt_tokens, shape.prompt_tokens * shape.token_bytes
        chunks = -(-n // (2 * self.apart_tokens))  # about as many as the distance between boundaries allows
        products = 2 * shape.head_dim * shape.layers * (-(-n // self.q_tokens) * chunks + 2 * n * self.edge_tokens * shape.kv_heads)
        return Cost(flops=products, bytes_kept=kept, bytes_read=kept)


def boundaries(keys: Tensor, edge: int, apart: int) -> Tensor:
    """Where chunks start: ascending int64 [C], the first is 0. ``keys`` [H, L, D], heads read as one long vector."""
    flat = keys.transpose(0, 1).flatten(1)
    length = flat.shape[0]
    until = torch.nn.functional.pad(flat.cumsum(dim=0), (0, 0, 1, 0))
    t = torch.arange(1, length, device=keys.device)
    before = until[t] - until[(t - edge).clamp(min=0)]  # sums point where means point
    behind = until[(t + edge).clamp(max=length)] - until[t]
    shift = 1 - torch.nn.functional.cosine_similarity(before, behind, dim=-1)
    if not len(shift):
        return torch.zeros(1, dtype=torch.long, device=keys.device)
    highest = torch.nn.functional.max_pool1d(shift[None, None], 2 * apart + 1, stride=1, padding=apart)[0, 0]
    edges = t[(shift >= highest) & (shift > shift.mean())]
    return torch.cat([edges.new_zeros(1), edges])


def pooled_queries(q: Tensor, q_tokens: int) -> Tensor:
    """Mean times root of the length, by blocks: [B, nQ, D] from [B, n, D]."""
    blocks = [q[:, start : start + q_tokens] for start in range(0, q.shape[1], q_tokens)]
    return torch.stack([block.mean(dim=1) * block.shape[1] ** 0.5 for block in blocks], dim=1)


def pooled_keys(keys: Tensor, firsts: Tensor) -> Tensor:
    """The same by chunks: [C, D] from [L, D]."""
    sizes = lengths(firsts, keys.shape[0])
    chunk = torch.arange(len(firsts), device=keys.device).repeat_interleave(sizes)
    sums = keys.new_zeros(len(firsts), keys.shape[1]).index_add_(0, chunk, keys)
    return sums / sizes[:, None] ** 0.5


def best_chunks(scores: Tensor, firsts: Tensor, ends: Tensor, budget: int, length: int) -> Tensor:
    """Tokens of the best chunks, ``budget`` in all, of those before ``ends`` [nQ]: bool [nQ, length]. ``scores`` [nQ, C]."""
    sizes = lengths(firsts, length)
    visible = (torch.minimum(firsts + sizes, ends[:, None]) - firsts).clamp(min=0)
    order = scores.masked_fill(visible == 0, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    taken = visible.gather(-1, order).cumsum(dim=-1) - visible.gather(-1, order)  # by chunks that are better
    room = torch.empty_like(taken).scatter_(-1, order, budget - taken)
    chunk = torch.arange(len(firsts), device=scores.device).repeat_interleave(sizes)
    within = torch.arange(length, device=scores.device) - firsts[chunk]
    return (within < room[:, chunk]) & (torch.arange(length, device=scores.device) < ends[:, None])


def lengths(firsts: Tensor, length: int) -> Tensor:
    """Tokens of each chunk: int64 [C]."""
    return torch.diff(firsts, append=firsts.new_tensor([length]))
