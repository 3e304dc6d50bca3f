"""Ms-PoE: squeeze positions differently in each head, least in heads that attend most pointedly.

Paper: Zhang et al., 2024, Found in the Middle: How Language Models Use Long Contexts Better via Plug-and-Play Positional
Encoding, arXiv 2403.04797. Reference code read: VITA-Group/Ms-PoE.

Idea: rotary decay makes the middle of a long text hard to see; dividing positions by a ratio brings it nearer. One ratio for all
would undo what heads learned, so ratios run from ``ratio_min`` to ``ratio_max`` over the heads of a layer, ranked by position
awareness: the share of keys that get more than ``outlier`` times the mean weight from the last query of the first prefill. The most
aware head is squeezed least.

Departs from the paper: ratios go by each head's rank, as the paper says; the released code indexes with the sorting permutation
instead. With grouped-query attention keys are rotated once for each query head, where the released code gives a group the ratio of
its first head. In chunked prefill the awareness is that of the first chunk's last query, for later chunks need the ratios before
the prompt ends.

Shapes and units: ratios (batch, query head), kept as state; logits of the awareness pass (batch, query head, 1, key).

Cost: one row of logits a layer, once; keys rotated at each forward for every query head, O(Hq · L · D).

Errors: ConfigError for a ratio below 1 or ratio_min above ratio_max.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape, heads_of
from baywindow.window.positions._rope import check_at_least, check_factor, keep_all_cost
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="Squeeze positions by head, least in heads that attend most pointedly",
    paper="arXiv:2403.04797",
    year=2024,
    needs=("weights", "kv"),
    claim="Head-wise ratios raise accuracy for answers in the middle of the context over unscaled RoPE, and over one uniform ratio.",
    departures=(
        "ratios follow each head's rank, not the sorting permutation that released code indexes with by mistake",
        "each query head has its own ratio under grouped-query attention: keys are rotated per query head",
        "in chunked prefill awareness comes from the first chunk: later chunks need the ratios before the prompt ends",
    ),
)
class MsPoE(Position):
    ratio_min: float = 1.2
    ratio_max: float = 1.8
    first_layer: int = 2  # earlier layers keep their positions
    outlier: float = 3.0  # α: how many times the mean weight counts as attended

    def __post_init__(self) -> None:
        check_factor("ratio_min", self.ratio_min)
        check_at_least("first_layer", self.first_layer, 0)
        check_at_least("outlier", self.outlier, 0)
        if not self.ratio_max >= self.ratio_min:
            raise ConfigError.bad_value("ratio_max", self.ratio_max, f"at least ratio_min={self.ratio_min}")

    def branches(self, asked: Asked) -> list[Branch]:
        if asked.layer.index < self.first_layer:
            return [Branch(q_at=asked.q_pos, k_at=asked.k_pos)]
        if "ratios" not in asked.state:
            asked.state["ratios"] = ratios(awareness(asked, self.outlier), self.ratio_min, self.ratio_max)
        by = asked.state["ratios"][:, :, None]
        k_pos = heads_of(asked.k_pos, asked.layer.kv_heads).repeat_interleave(asked.layer.group, dim=1)
        return [Branch(q_at=asked.q_pos[:, None] / by, k_at=k_pos / by)]

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape, rotations=(shape.q_heads,))


def awareness(asked: Asked, outlier: float) -> Tensor:
    """Share of visible keys to which the last query gives more than ``outlier`` times the mean weight, (B, Hq), without positions."""
    k_pos = heads_of(asked.k_pos, asked.layer.kv_heads).repeat_interleave(asked.layer.group, dim=1)  # [B, Hq, L]
    keys = asked.k.repeat_interleave(asked.layer.group, dim=1)
    logits = (asked.q[:, :, -1:].float() @ keys.float().transpose(-1, -2)).squeeze(2) * asked.layer.scaling
    visible = (k_pos >= 0) & (k_pos <= asked.q_pos[:, None, -1:])
    weights = torch.where(visible, logits, -torch.inf).softmax(dim=-1)
    count = visible.sum(dim=-1, keepdim=True).clamp(min=1)
    # Weights sum to one, so their mean over the visible keys is 1 / count.
    return ((weights * count > outlier) & visible).sum(dim=-1) / count.squeeze(-1)


def ratios(scores: Tensor, least: float, most: float) -> Tensor:
    """Ratio of each head by falling score: the highest gets ``least``, rank j gets least + (most − least) · j / (heads − 1)."""
    heads = scores.shape[1]
    ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return least + (most - least) * ranks / max(1, heads - 1)
