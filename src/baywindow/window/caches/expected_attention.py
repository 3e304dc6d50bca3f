"""Expected Attention: keep what future queries are expected to attend to, weighted by how large the value is.

Paper: Devoto and others, 2025, "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution",
arXiv 2510.00636; reference code read: NVIDIA/kvpress.

Idea: un-rotated queries of a head are close to a normal distribution. Their mean and covariance, turned to the average of the next
``future_tokens`` positions, give the expected unnormalised weight of every key in closed form: exp(μ·k/√d + k·Σk/2d). Softmaxed
over the tokens, plus ``epsilon``, times the length of the value, that is a token's score.

Departs from the paper: ``epsilon`` is 0.01, not 0, which decides whether small budgets work at all. Statistics are
gathered while the prompt is read, not recomputed from hidden states (the same numbers), and freed when it is over. The score is averaged
over the query heads of a key/value head, as in the reference code. The paper's variant that goes on compressing while it generates is
left out: its statistics would have to stay.

Shapes and units: tokens per key/value head; mean [B, Hq, D] and covariance [B, Hq, D, D] float32; the first ``sink_tokens``
always stay and do not count for the statistics.

Cost: O(query heads · tokens · dim²) for covariance and for scoring, once.

Errors: ConfigError for a budget not above ``sink_tokens``, or options below 0.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape, State, group_mean
from baywindow.window.block import Block
from baywindow.window.caches._cost import budgeted_cost
from baywindow.window.caches._votes import at_least
from baywindow.window.caches.base import Moment, Seen, Selector


@technique(
    summary="keep what future queries are expected to attend to",
    paper="arXiv:2510.00636",
    year=2025,
    needs=("weights", "kv"),
    claim="Without seeing the question, tokens kept by expected attention answer it better than recency or random ones.",
    departures=(
        "epsilon is 0.01 by default: with 0 small budgets fail",
        "query statistics are gathered while the prompt is read instead of being recomputed from hidden states",
        "acts once after the prompt; the paper's variant for long generation is left out",
    ),
    slot="reduce",
)
class ExpectedAttention(Selector):
    watches: ClassVar[bool] = True

    future_tokens: int = 512
    sink_tokens: int = 4
    epsilon: float = 1e-2
    use_covariance: bool = True
    use_values: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("sink_tokens", self.sink_tokens), ("epsilon", self.epsilon)):
            if value < 0:
                raise ConfigError.bad_value(name, value, "0 or more")
        if self.future_tokens < 1:
            raise ConfigError.bad_value("future_tokens", self.future_tokens, "at least 1")
        if self.budget_tokens is not None and self.budget_tokens <= self.sink_tokens:
            raise ConfigError.bad_value("budget_tokens", self.budget_tokens, f"larger than sink_tokens={self.sink_tokens}")

    def budget(self, moment: Moment) -> Tensor:
        return at_least(super().budget(moment), self.sink_tokens + 1)

    def watch(self, seen: Seen) -> None:
        if seen.phase == "prefill":
            gather(seen.state, seen.queries.float(), seen.q_pos >= self.sink_tokens, self.use_covariance)

    def score(self, moment: Moment, block: Block) -> Tensor:
        mean, covariance = statistics(moment.state)
        at = moment.seen[:, None] + torch.arange(self.future_tokens, device=moment.seen.device)
        turn = moment.turn(at)[:, None]  # [B, 1, D, D]
        keys = moment.keys(block).float().repeat_interleave(moment.layer.group, dim=1)
        scaling = moment.layer.scaling
        logits = (keys @ (mean[:, :, None] @ turn).transpose(2, 3))[..., 0] * scaling
        if covariance is not None:
            spread = turn.transpose(2, 3) @ covariance @ turn
            logits = logits + ((keys @ spread) * keys).sum(dim=-1) * scaling**2 / 2
        # Sinks would take nearly all of the weight; they stay in any case, and the others are weighed among themselves.
        weighed = (block.head_positions >= self.sink_tokens) & ~moment.protected(block)
        logits = logits.masked_fill(~weighed.repeat_interleave(moment.layer.group, dim=1), -torch.inf)
        weights = group_mean(torch.softmax(logits, dim=-1).nan_to_num(0.0), moment.layer.kv_heads)
        scores = weights + self.epsilon
        if self.use_values:
            scores = scores * block.values.float().norm(dim=-1)
        return scores.masked_fill((block.head_positions >= 0) & (block.head_positions < self.sink_tokens), torch.inf)

    def cost(self, shape: Shape) -> Cost:
        square = 2 * shape.layers * shape.q_heads * shape.head_dim**2 * shape.prompt_tokens
        linear = 2 * shape.layers * shape.q_heads * shape.head_dim * shape.prompt_tokens
        return budgeted_cost(self, shape, (2 * square if self.use_covariance else 0) + linear)


def gather(state: State, queries: Tensor, counted: Tensor, outer: bool) -> None:
    """Merge the queries [B, Hq, n, D] where ``counted`` [B, n] into the running count, mean and sum of squared deviations.

    Pieces are merged by their means, not by plain sums: a covariance is a small difference of large sums, which float32 would lose.
    """
    real = counted[:, None, :, None]
    new = counted.sum(dim=1).float()[:, None, None]  # [B, 1, 1]
    mean = (queries * real).sum(dim=2) / new.clamp(min=1)
    if "count" not in state:
        state["count"], state["mean"] = torch.zeros_like(new), torch.zeros_like(mean)
        if outer:
            state["spread"] = mean.new_zeros(*mean.shape, mean.shape[-1])
    step = mean - state["mean"]
    total = (state["count"] + new).clamp(min=1)
    if outer:
        centred = (queries - mean[:, :, None]) * real
        between = (state["count"] * new / total)[..., None] * step[..., :, None] * step[..., None, :]
        state["spread"] = state["spread"] + centred.transpose(2, 3) @ centred + between
    state["mean"] = state["mean"] + step * new / total
    state["count"] = state["count"] + new


def statistics(state: State) -> tuple[Tensor, Tensor | None]:
    """Mean [B, Hq, D] and covariance [B, Hq, D, D] (None where it was not gathered), float32."""
    spread = state.get("spread")
    return state["mean"], None if spread is None else spread / state["count"].clamp(min=1)[..., None]
