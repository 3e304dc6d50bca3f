"""ThinK: leave out the key channels that the prompt's last queries hardly use.

Paper: Xu and others, 2024, "ThinK: Thinner Key Cache by Query-Driven Pruning", arXiv 2407.21018; reference code read:
SalesforceAIResearch/ThinK.

Idea: a logit is a sum over channels, and few channels carry most of it. A channel's share is bounded by the norm of its queries times
the norm of its keys; the ``pruned_fraction`` of a head's channels with the smallest products is dropped from the prompt's keys. Values,
the last ``residual_tokens`` of the prompt and whatever is generated keep all channels.

Departs from the paper: one choice serves all query heads of a key/value head (their squared queries are averaged), because a shared
head's keys are held once; the released code repeats the keys for every query head first, which costs what pruning saves. Keys are
read back at full width with zeros where nothing is held, which gives the same logits. Key norms are those of the tokens that are pruned.

Shapes and units: kept channels [B, H, k], k = D − ⌊pruned_fraction · D⌋; keys are pruned as they are held (rotated, unless a position
scheme turns them at every use). It stands on any cache that acts once after the prompt, and under `kivi`, which packs what is left.

Cost: once after the prompt O(heads · tokens · dim); reading scatters keys to full width.

Errors: ConfigError for a fraction outside [0, 1) or sizes out of range; RecipeError beside caches that hold keys un-rotated, and beside
those that drop tokens at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import Cost, Shape, group_mean
from baywindow.window.block import Flat
from baywindow.window.caches.base import CachePolicy, Encode, Narrower, Packing, Segment


@technique(
    summary="drop the key channels that the prompt's last queries hardly use",
    paper="arXiv:2407.21018",
    year=2024,
    needs=("weights", "kv"),
    claim="Dropping 40 % of the key channels by query and key norm changes answers less than dropping as many by key norm or at random.",
    departures=(
        "one choice serves all query heads of a key/value head: its keys are held once",
        "key norms are those of the tokens that are pruned, without the recent ones, which stay whole",
    ),
    slot="narrow",
)
class ThinK(Narrower):
    pruned_fraction: float = 0.4  # of a head's channels, removed
    window_tokens: int = 32  # queries that judge
    residual_tokens: int = 32  # of the prompt's end, whole

    def __post_init__(self) -> None:
        if not 0 <= self.pruned_fraction < 1:
            raise ConfigError.bad_value("pruned_fraction", self.pruned_fraction, "at least 0 and below 1")
        if self.window_tokens < 1:
            raise ConfigError.bad_value("window_tokens", self.window_tokens, "at least 1")
        if self.residual_tokens < 0:
            raise ConfigError.bad_value("residual_tokens", self.residual_tokens, "0 or more")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        super().check_with(others)
        if other := next((o for o in others if isinstance(o, CachePolicy) and o.needs_raw_keys), None):
            raise RecipeError(
                f"{self.card.name} and {other.card.name} cannot stand in one recipe: {self.card.name} drops channels of rotated keys, and "
                f"{other.card.name} holds them un-rotated",
                hint="choose one of them, or think + kivi",
            )

    def query_window(self) -> int:
        return self.window_tokens

    def kept_channels(self, head_dim: int) -> int:
        return head_dim - int(head_dim * self.pruned_fraction)

    def narrow(self, flat: Flat, at: Packing, encode: Encode) -> Segment:
        width = flat.keys.shape[1]
        kept = self.kept_channels(width)
        if kept == width:
            return encode(flat, at)
        channels = best_channels(self.scores(flat, at), kept)
        keys = flat.keys.gather(1, of_tokens(channels, flat.counts))
        narrow = Flat(keys=keys, values=flat.values, positions=flat.positions, counts=flat.counts)
        return ThinSegment(encode(narrow, at), channels, width)

    def scores(self, flat: Flat, at: Packing) -> Tensor:
        """Mean squared query times mean squared key of each channel: float32 [B, H, D]."""
        queries, q_pos = at.watched()
        judging = (q_pos >= 0)[:, None, :, None]
        voters = judging.sum(dim=2).clamp(min=1)
        query_norms = group_mean((queries.float().square() * judging).sum(dim=2) / voters, at.layer.kv_heads)
        spans = torch.split(flat.keys, flat.counts.flatten().tolist())
        key_norms = torch.stack([keys.float().square().sum(dim=0) / max(1, len(keys)) for keys in spans])
        return query_norms * key_norms.view_as(query_norms)

    def cost(self, shape: Shape) -> Cost:
        pruned = max(0, shape.prompt_tokens - self.residual_tokens)
        heads = shape.layers * shape.kv_heads
        gone = heads * pruned * (shape.head_dim - self.kept_channels(shape.head_dim)) * shape.element_bytes
        kept = shape.prompt_tokens * shape.token_bytes - gone
        return Cost(flops=2 * heads * pruned * shape.head_dim, bytes_kept=kept, bytes_read=kept)


class ThinSegment(Segment):
    """Another segment whose keys lack channels. ``channels`` uint8 (int16 above 256) [B, H, k] are those it has, of ``width``."""

    def __init__(self, inner: Segment, channels: Tensor, width: int) -> None:
        self._inner, self._width = inner, width
        self._channels = channels.to(torch.uint8 if width <= 256 else torch.int16)
        self.counts = inner.counts

    def flat(self) -> Flat:
        thin = self._inner.flat()
        keys = thin.keys.new_zeros(thin.keys.shape[0], self._width)
        keys.scatter_(1, of_tokens(self._channels.long(), self.counts), thin.keys)
        return Flat(keys=keys, values=thin.values, positions=thin.positions, counts=thin.counts)

    def rows(self, index: Tensor) -> Segment:
        return ThinSegment(self._inner.rows(index), self._channels.index_select(0, index.to(self._channels.device)), self._width)

    def tensors(self) -> dict[str, Tensor]:
        kind = torch.tensor(list(self._inner.kind.__name__.encode()), dtype=torch.uint8)
        return self._inner.tensors() | {"channels": self._channels, "width": torch.tensor([self._width]), "inner_kind": kind}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Segment:
        own = ("channels", "width", "inner_kind")
        kind = Segment.kinds[bytes(tensors["inner_kind"].tolist()).decode()]
        inner = kind.restore({name: t for name, t in tensors.items() if name not in own})
        return cls(inner, tensors["channels"], int(tensors["width"]))


def best_channels(scores: Tensor, kept: int) -> Tensor:
    """The ``kept`` channels of each head with the highest ``scores`` [B, H, D], ascending: [B, H, kept]."""
    return scores.argsort(dim=-1, descending=True, stable=True)[..., :kept].sort(dim=-1).values


def of_tokens(channels: Tensor, counts: Tensor) -> Tensor:
    """What is known of each row and head [B, H, k], for each of its tokens as they lie end to end: [N, k]."""
    return channels.flatten(0, 1).repeat_interleave(counts.flatten().to(channels.device), dim=0)
