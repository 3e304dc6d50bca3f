"""ClusterKV: keep everything, and let every step read the clusters of keys that its query points at.

Paper: Liu and others, 2024, "ClusterKV: Manipulating LLM KV Cache in Semantic Space for Recallable Compression", arXiv 2412.03213;
reference code read: sjtu-zhao-lab/ClusterKV.

Idea: keys that point the same way matter to the same queries, wherever they stand. After the prompt the keys of each head are clustered
by cosine similarity, the first ``sink_tokens`` left out. A step ranks clusters by its query's product with their centroids, reads whole
clusters until the budget is full, cuts the last one, and adds the sinks and the tokens that are in no cluster yet. Every
``update_tokens`` later tokens are clustered among themselves, into ``update_clusters`` more. Nothing is lost: what one step leaves
out, the next may read.

Departs from the paper: the query heads that share a key/value head read one set of clusters, ranked by the mean over these heads of the
weight that attention would give to one key at the centroid (with one query head a key/value head that is the paper's order): a set
for each would read keys several times. First centroids are keys at even distances, not random ones, so that runs repeat. Prompts
and questions attend in full. Keys and values leave the device only with ``+ offload``: then clusters lie in host memory (beside a CPU: in
a mapped temporary file), what a step read stays on the device for the next, as in the reference code, and only the rest is fetched.

Shapes and units: tokens per key/value head; a step reads ``budget_tokens``, sinks included, and the tokens that are not clustered yet.
State a layer: centroids float32 [B, H, C, D], sizes [B, H, C], members [B, H, N] (slots).

Cost: clustering once, O(passes · clusters · tokens · dim); a step O(clusters · dim) and the budget. Nothing is freed.

Errors: ConfigError for a budget below the sinks, or for counts below 1. A prompt within the budget is read in full.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.budget import Budgeted
from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, LayerInfo, ModelInfo, Shape
from baywindow.window.caches._kmeans import Clusters, kmeans
from baywindow.window.caches._slots import first_slots
from baywindow.window.caches.base import CachePolicy
from baywindow.window.recall import Held, Lookup, Recaller


@technique(
    summary="keep all tokens; each step reads the clusters of keys that its query points at",
    paper="arXiv:2412.03213",
    year=2024,
    needs=("weights", "kv"),
    claim="Clusters of keys recall more of the tokens with most attention than pages of neighbours do at the same budget.",
    departures=(
        "query heads of a key/value head read one set of clusters, ranked by their mean weight: separate sets would read keys repeatedly",
        "first centroids are keys at even distances instead of random ones, so that runs repeat",
        "clusters lie apart only with `+ offload`: where memory holds everything, bringing them back is a cost without a gain",
    ),
    slot="recall",
)
class ClusterKV(CachePolicy, Budgeted, Recaller):
    sink_tokens: int = 16
    cluster_tokens: int = 80  # prompt tokens a cluster holds on average: the paper's L / 80 clusters
    passes: int = 20  # of k-means, at most
    update_tokens: int = 320  # m: later tokens that are clustered at once
    update_clusters: int = 4  # C+: into so many
    dense_layers: int = 2  # the first layers attend to everything, as in the reference code

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cluster_tokens", "passes", "update_tokens", "update_clusters"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        for name in ("sink_tokens", "dense_layers"):
            if getattr(self, name) < 0:
                raise ConfigError.bad_value(name, getattr(self, name), "0 or more")
        if self.budget_tokens is not None and self.budget_tokens < self.sink_tokens:
            raise ConfigError.bad_value("budget_tokens", self.budget_tokens, f"at least sink_tokens={self.sink_tokens}")

    def near_tokens(self, info: ModelInfo, layer: LayerInfo) -> int | None:
        return None if layer.index < self.dense_layers else self.update_tokens

    def learn(self, held: Held) -> None:
        if held.layer.index < self.dense_layers:
            return
        here = held.block.first(held.past).head_positions >= 0
        sink = here & (here.long().cumsum(dim=-1) <= self.sink_tokens)
        found = kmeans(held.keys(0, held.past), here & ~sink, self.cluster_tokens, self.passes)
        held.state.update(found.state(), sinks=first_slots(here, self.sink_tokens))

    def recall(self, asked: Lookup) -> Tensor | None:
        if asked.layer.index < self.dense_layers:
            return None
        clusters = self._up_to_date(asked)
        room = max(0, self.budget_of(asked.past) - self.sink_tokens)
        if clusters.members.shape[-1] - self.sink_tokens <= room:
            return None
        order = self._weights(asked, clusters).argsort(dim=-1, descending=True)
        chosen = clusters.take(order, room)
        later = torch.arange(clusters.members.shape[-1], asked.block.length, device=chosen.device)
        return torch.cat([asked.state["sinks"], chosen, later.expand(*chosen.shape[:2], -1)], dim=-1)

    def _up_to_date(self, asked: Lookup) -> Clusters:
        """All clusters, those of later tokens made if there are enough."""
        clusters = Clusters.of(asked.state)
        known = clusters.members.shape[-1]
        if asked.past - known < self.update_tokens:
            return clusters
        fresh = asked.block.part(known, asked.past)
        here = fresh.head_positions >= 0 if asked.holes else None
        of_each = (asked.past - known) / self.update_clusters
        clusters = kmeans(asked.keys(known, asked.past), here, of_each, self.passes).behind(clusters)
        asked.state.update(clusters.state())
        return clusters

    def _weights(self, asked: Lookup, clusters: Clusters) -> Tensor:
        """The weight of one key at each centroid, if all keys stood at theirs; the mean over a head's query heads: float32 [B, H, C]."""
        B, H, C, D = clusters.centroids.shape
        log_sizes = clusters.sizes.float().log().view(B * H, 1, C)  # an empty cluster: −inf
        q, centroids = asked.turned().float().view(B * H, -1, D), clusters.centroids.view(B * H, C, D)
        logits = torch.baddbmm(log_sizes, q, centroids.transpose(1, 2), alpha=asked.layer.scaling)
        return logits.softmax(dim=-1).mean(dim=1).view(B, H, C) / clusters.sizes.clamp(min=1)

    def cost(self, shape: Shape) -> Cost:
        acting = max(0, shape.layers - self.dense_layers)
        clusters = max(1, shape.prompt_tokens // self.cluster_tokens)
        making = 2 * acting * shape.kv_heads * self.passes * clusters * shape.prompt_tokens * shape.head_dim
        asking = 2 * acting * shape.q_heads * clusters * shape.head_dim * shape.generated_tokens
        read = min(self.budget_of(shape.prompt_tokens), shape.prompt_tokens)
        one = shape.token_bytes // max(1, shape.layers)
        centroids = 4 * acting * shape.kv_heads * clusters * shape.head_dim
        index = acting * shape.kv_heads * (4 * shape.prompt_tokens + 16 * clusters)  # members; sizes and starts
        kept = shape.prompt_tokens * shape.token_bytes + centroids + index
        dense = (shape.layers - acting) * shape.prompt_tokens * one
        return Cost(flops=making + asking, bytes_kept=kept, bytes_read=dense + acting * read * one + centroids)
