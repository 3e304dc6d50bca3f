"""K-means over keys by direction, for caches that look up clusters. All rows and heads at once; every run gives the same clusters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from baywindow.window.base import State

ROWS = 4096  # keys whose similarities to all centroids are held at once


@dataclass(frozen=True)
class Clusters:
    """``centroids`` float32 [B, H, C, D] (the mean of the member keys), ``sizes`` int64 [B, H, C]; ``members`` int32 [B, H, N]: which of
    the N keys, cluster by cluster in the order they came (keys that were left out stand last); ``starts`` int64 [B, H, C]: where a
    cluster's members begin."""

    centroids: Tensor
    sizes: Tensor
    members: Tensor
    starts: Tensor

    def state(self) -> State:
        """By name."""
        return dict(vars(self))

    @staticmethod
    def of(state: State) -> Clusters:
        return Clusters(*(state[name] for name in ("centroids", "sizes", "members", "starts")))

    def behind(self, other: Clusters) -> Clusters:
        """These after ``other``, whose keys stand before these."""
        before = other.members.shape[-1]
        return Clusters(
            torch.cat([other.centroids, self.centroids], dim=2),
            torch.cat([other.sizes, self.sizes], dim=2),
            torch.cat([other.members, self.members + before], dim=2),
            torch.cat([other.starts, self.starts + before], dim=2),
        )

    def take(self, order: Tensor, room: int) -> Tensor:
        """Members of clusters in the order ``order`` [B, H, C] until ``room`` places are full; the last cluster is cut. int64
        [B, H, room]; −1 where there are no more."""
        taken = self.sizes.gather(-1, order)
        ends = taken.cumsum(dim=-1)
        shift = self.starts.gather(-1, order) - (ends - taken)  # from a place to its member
        place = torch.arange(room, device=order.device).expand(*order.shape[:2], room).contiguous()
        rank = torch.searchsorted(ends, place, right=True)
        if int(ends[..., -1].min()) >= room:  # nobody runs out: nothing to mark
            return self.members.gather(-1, shift.gather(-1, rank).add_(place)).long()
        at = shift.gather(-1, rank.clamp(max=order.shape[-1] - 1)) + place
        found = self.members.gather(-1, at.clamp(0, self.members.shape[-1] - 1)).long()
        return found.masked_fill_(rank >= order.shape[-1], -1)


def kmeans(keys: Tensor, held: Tensor | None, tokens_per_cluster: float, passes: int) -> Clusters:
    """Cluster ``keys`` [B, H, N, D] by cosine similarity; ``held`` bool [B, H, N] leaves some out (None: all take part).

    A row and head has one cluster per ``tokens_per_cluster`` of its keys, at least one; where rows differ, those too many are empty. The
    first centroids are keys at even distances. It ends after ``passes``, or when no key changes its cluster.
    """
    x = keys.float()
    held = torch.ones(x.shape[:3], dtype=torch.bool, device=x.device) if held is None else held
    counts = held.sum(dim=-1)
    wanted = torch.where(counts > 0, (counts / tokens_per_cluster).long().clamp(min=1), 0)  # [B, H]
    most = max(1, int(wanted.max()))
    exists = torch.arange(most, device=x.device) < wanted[..., None]
    centroids = _spread(x, held, counts, wanted, most)
    labels: Tensor | None = None
    for _ in range(max(1, passes)):
        new = _nearest(x, centroids, exists).masked_fill(~held, most)
        if labels is not None and torch.equal(new, labels):
            break
        labels = new
        centroids, sizes = _means(x, labels, centroids)
    assert labels is not None
    members = labels.argsort(dim=-1, stable=True).to(torch.int32)
    return Clusters(centroids, sizes, members, sizes.cumsum(dim=-1) - sizes)


def _spread(x: Tensor, held: Tensor, counts: Tensor, wanted: Tensor, most: int) -> Tensor:
    """Keys at even distances among the held ones: [B, H, most, D]."""
    at = torch.arange(most, device=x.device) + 0.5
    rank = (at * counts[..., None] / wanted.clamp(min=1)[..., None]).long().clamp(max=max(0, x.shape[2] - 1))
    order = (~held).long().argsort(dim=-1, stable=True)  # held ones first, as they came
    slots = order.gather(-1, rank)
    return x.gather(2, slots[..., None].expand(-1, -1, -1, x.shape[-1]))


def _nearest(x: Tensor, centroids: Tensor, exists: Tensor) -> Tensor:
    """The most similar existing centroid of every key: int64 [B, H, N]. A key's own length does not matter for that."""
    directions = normalize(centroids, dim=-1).transpose(2, 3)
    found = []
    for start in range(0, x.shape[2], ROWS):
        found.append((x[:, :, start : start + ROWS] @ directions).masked_fill_(~exists[:, :, None], -torch.inf).argmax(dim=-1))
    return torch.cat(found, dim=2)


def _means(x: Tensor, labels: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """The mean key of every cluster and its size; an empty cluster stays where it was."""
    B, H, most, D = before.shape
    each = torch.arange(B * H, device=x.device).view(B, H, 1) * (most + 1)
    flat = (labels + each).flatten()
    sums = x.new_zeros(B * H * (most + 1), D).index_add_(0, flat, x.reshape(-1, D)).view(B, H, most + 1, D)[:, :, :most]
    sizes = torch.bincount(flat, minlength=B * H * (most + 1)).view(B, H, most + 1)[..., :most]
    return torch.where(sizes[..., None] > 0, sums / sizes.clamp(min=1)[..., None], before), sizes
