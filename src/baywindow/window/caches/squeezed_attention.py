"""Squeezed Attention: a context that many questions share is clustered once; each question reads the keys its clusters point to.

Paper: Hooper and others, 2024, "Squeezed Attention: Accelerating Long Context Length LLM Inference", arXiv 2411.09688; reference code read
in excerpts: SqueezeAILab/SqueezedAttention.

Idea: the keys of the context, but for its last ``window_tokens``, are clustered by cosine similarity into ``cluster_fraction`` of their
number. A cluster's score for a query is the weight that attention would give to one of its keys if every key stood at its
centroid. One threshold for all layers and heads, from the scores that the context's own last queries give, leaves the budget of keys on
average, so heads with flat attention read more and heads with sharp attention less. A question averages the scores of its
tokens, reads every key above the threshold, the window, and what came after the context. With two ``levels``, clusters of clusters are
looked up first, under a milder threshold, and only the clusters within the surviving ones are compared.

Departs from the paper: query heads of a key/value head share one lookup (the mean of their scores), as they share the keys. First
centroids are keys at even distances instead of k-means++ draws, and k-means stops after ``passes`` instead of 300, to save time on a
CPU. The share of keys is given as a budget that counts the window, not as a percentile.

Shapes and units: tokens per key/value head on average over layers and heads; state a layer: centroids float32 [B, H, C, D], sizes
[B, H, C], the cluster of every key int32 [B, H, N], the scores seen [B, H, C], thresholds [B].

Cost: clustering once, O(passes · clusters · tokens · dim), where a `Prefilled` pays it for all its questions; a lookup O(clusters · dim).
Nothing is freed.

Errors: ConfigError for fractions outside 0 to 1, or levels other than 1 and 2. A context within the budget is read in full.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.budget import Budgeted
from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape, State
from baywindow.window.block import rows_of_heads
from baywindow.window.caches._kmeans import Clusters, kmeans
from baywindow.window.caches.base import CachePolicy
from baywindow.window.recall import Held, Lookup, Phase, Recaller, marked_slots


@technique(
    summary="cluster a shared context once; each question reads the keys whose clusters it points at",
    paper="arXiv:2411.09688",
    year=2024,
    needs=("weights", "kv"),
    claim="One threshold for all heads keeps answers closer to full attention than the same number of keys in every head.",
    departures=(
        "query heads of a key/value head share one lookup, as they share the keys",
        "first centroids are keys at even distances, and k-means ends after fewer passes, to save time on a CPU",
        "the share of keys is a budget that counts the window, not a percentile",
    ),
    slot="recall",
)
class SqueezedAttention(CachePolicy, Budgeted, Recaller):
    window_tokens: int = 100  # the context's last tokens: their queries set the threshold, their keys are always read
    cluster_fraction: float = 0.05  # clusters per key
    levels: int = 1
    coarse_fraction: float = 0.01  # clusters of clusters per key
    coarse_keep: float = 0.5  # share of keys whose coarse clusters survive the first level
    passes: int = 20  # of k-means, at most

    def __post_init__(self) -> None:
        if self.budget_tokens is None and self.budget_fraction is None:
            object.__setattr__(self, "budget_fraction", 0.1)  # the paper's percentile of 0.9
        super().__post_init__()
        if self.levels not in (1, 2):
            raise ConfigError.bad_value("levels", self.levels, "1 or 2")
        for name in ("cluster_fraction", "coarse_fraction", "coarse_keep"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError.bad_value(name, getattr(self, name), "above 0 and at most 1")
        for name in ("window_tokens", "passes"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")

    def query_window(self) -> int:
        return self.window_tokens

    def lookup_queries(self, phase: Phase, n: int) -> int:
        return n if phase == "decode" else 0

    def learn(self, held: Held) -> None:
        N = held.past - self.window_tokens
        if N < 1 or self.budget_of(held.past) >= held.past:
            return
        here = held.block.first(N).head_positions >= 0 if held.holes else None
        fine = kmeans(held.keys(0, N), here, 1 / self.cluster_fraction, self.passes)
        queries, q_pos = held.watched()
        held.state.update(centroids=fine.centroids, sizes=fine.sizes, clusters=owners(fine), share=self._share(fine.sizes))
        q = held.turn(queries, q_pos)
        held.state["seen"] = weight_of_one(q, q_pos, fine.centroids, fine.sizes, held.layer.scaling)
        if self.levels == 2:
            coarse = kmeans(fine.centroids, fine.sizes > 0, self.cluster_fraction / self.coarse_fraction, self.passes)
            whose = owners(coarse)
            sizes = torch.zeros_like(coarse.sizes).scatter_add_(-1, whose.clamp(max=coarse.sizes.shape[-1] - 1).long(), fine.sizes)
            held.state.update(coarse_centroids=coarse.centroids, coarse_clusters=whose, coarse_keys=sizes)
            held.state["coarse_seen"] = weight_of_one(q, q_pos, coarse.centroids, sizes, held.layer.scaling)

    def _share(self, sizes: Tensor) -> Tensor:
        """The share of its clustered keys that a row may read: float32 [B]. A short row of a batch may read all."""
        keys = sizes.sum(dim=-1).float().mean(dim=1)
        room = [self.budget_of(round(n) + self.window_tokens) - self.window_tokens for n in keys.tolist()]
        return torch.tensor(room, device=sizes.device).clamp(min=0) / keys.clamp(min=1)

    def conclude(self, states: list[State]) -> None:
        """One threshold a level for all layers and heads of a row."""
        made = [state for state in states if "seen" in state]
        for state in made:
            state["threshold"] = threshold([s["seen"] for s in made], [s["sizes"] for s in made], state["share"])
            if self.levels == 2:
                keep = torch.full_like(state["share"], self.coarse_keep)
                state["coarse_threshold"] = threshold([s["coarse_seen"] for s in made], [s["coarse_keys"] for s in made], keep)

    def recall(self, asked: Lookup) -> Tensor | None:
        if "threshold" not in asked.state:
            return None
        keep = self._above(asked)
        if bool(keep.all()):
            return None
        read = torch.ones(*keep.shape[:2], asked.block.length, dtype=torch.bool, device=keep.device)
        clusters = asked.state["clusters"]
        read[..., : clusters.shape[-1]] = members(keep, clusters)
        return read

    def _above(self, asked: Lookup) -> Tensor:
        """The clusters to read: bool [B, H, C]."""
        state, q, scaling = asked.state, asked.turned(), asked.layer.scaling
        centroids, sizes, least = state["centroids"], state["sizes"], state["threshold"][:, None, None]
        if self.levels == 1:
            return weight_of_one(q, asked.q_pos, centroids, sizes, scaling) >= least
        rough = weight_of_one(q, asked.q_pos, state["coarse_centroids"], state["coarse_keys"], scaling)
        within = members(rough >= state["coarse_threshold"][:, None, None], state["coarse_clusters"])
        ids = marked_slots(within)
        at, there = ids.clamp(min=0), ids >= 0
        weights = weight_of_one(q, asked.q_pos, rows_of_heads(centroids, at), sizes.gather(-1, at) * there, scaling)
        above = (weights >= least) & there
        return torch.zeros_like(sizes).scatter_add_(-1, at, above.long()) > 0

    def cost(self, shape: Shape) -> Cost:
        clusters = max(1, int(shape.prompt_tokens * self.cluster_fraction))
        heads = shape.layers * shape.kv_heads
        making = 2 * heads * self.passes * clusters * shape.prompt_tokens * shape.head_dim
        asking = 2 * shape.layers * shape.q_heads * clusters * shape.head_dim * (shape.generated_tokens + self.window_tokens)
        read = min(self.budget_of(shape.prompt_tokens), shape.prompt_tokens) * shape.token_bytes
        index = heads * (4 * shape.prompt_tokens + clusters * (4 * shape.head_dim + 20))  # members; centroids, sizes, starts, scores
        kept = shape.prompt_tokens * shape.token_bytes + index
        return Cost(flops=making + asking, bytes_kept=kept, bytes_read=read + 4 * heads * clusters * shape.head_dim)


def weight_of_one(q: Tensor, q_pos: Tensor, centroids: Tensor, sizes: Tensor, scaling: float) -> Tensor:
    """The weight of one key at each centroid [B, H, C, D] if all keys stood at theirs: the mean over queries ``q`` [B, Hq, n, D] (those at
    ``q_pos`` [B, n] −1 do not count) and over the query heads of a head. float32 [B, H, C]; 0 for an empty cluster."""
    B, H, C, D = centroids.shape
    n = q.shape[2]
    log_sizes = sizes.float().log().view(B * H, 1, C)  # an empty cluster: −inf
    logits = torch.baddbmm(log_sizes, q.float().reshape(B * H, -1, D), centroids.reshape(B * H, C, D).transpose(1, 2), alpha=scaling)
    weights = logits.softmax(dim=-1).view(B, H, -1, n, C)
    if n == 1:
        mean = weights[:, :, :, 0].mean(dim=2)
    else:
        counts = (q_pos >= 0).float()
        mean = (weights.mean(dim=2) * counts[:, None, :, None]).sum(dim=2) / counts.sum(dim=1).clamp(min=1)[:, None, None]
    return mean.nan_to_num_(0.0).div_(sizes.clamp(min=1))


def threshold(scores: list[Tensor], sizes: list[Tensor], share: Tensor) -> Tensor:
    """The lowest score of the best clusters that together hold at most ``share`` [B] of all keys: float32 [B], infinite if none does.
    ``scores`` and ``sizes`` [B, H, C] of all layers."""
    flat, keys = (torch.cat([t.flatten(1) for t in ts], dim=1) for ts in (scores, sizes))
    order = flat.argsort(dim=1, descending=True, stable=True)
    ranked, held = flat.gather(1, order), keys.gather(1, order)
    within = (held.cumsum(dim=1) <= share[:, None] * held.sum(dim=1, keepdim=True)) & (held > 0)
    return ranked.masked_fill(~within, torch.inf).amin(dim=1)


def owners(made: Clusters) -> Tensor:
    """Which cluster every key belongs to, C for those that were left out: int32 [B, H, N]."""
    ends = made.sizes.cumsum(dim=-1)
    place = torch.arange(made.members.shape[-1], device=ends.device).expand(*ends.shape[:2], -1).contiguous()
    found = torch.searchsorted(ends, place, right=True, out_int32=True)
    return torch.zeros_like(found).scatter_(-1, made.members.long(), found)


def members(chosen: Tensor, clusters: Tensor) -> Tensor:
    """Whether each key's cluster is among those ``chosen`` (bool [B, H, C]): bool [B, H, N]. A key of none is not."""
    return torch.nn.functional.pad(chosen, (0, 1)).gather(-1, clusters.long())
