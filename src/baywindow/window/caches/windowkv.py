"""WindowKV: keep whole short windows of the prompt, scored as the task asks, chosen once for a group of layers.

Paper: Zuo and others, 2025, "WindowKV: Task-Adaptive Group-Wise KV Cache Window Selection for Efficient LLM Inference",
arXiv 2503.17922; reference code read: optim996/WindowKV.

Idea: meaning lives in phrases, so tokens stay or go in windows of ``span_tokens``. The last ``window_tokens`` queries vote; a window's
score is its mean vote (for tasks that need everything, as summaries) or that of its best half (for tasks that need one place, as
questions). One choice serves all heads of ``group_layers`` layers in a row; budgets fall from group to group.

Departs from the paper: no classifier reads the prompt to tell the task; ``strategy`` says it. A window that fits only in part is kept
in part, so that the budget is met. Groups at the end may be smaller, and budgets are corrected for it. What stays keeps its order.

Shapes and units: ``budget_tokens`` is the mean per key/value head over the layers, the voters' own tokens included; scores float32
[B, 1, L].

Cost: one layer in ``group_layers`` computes votes, O(query heads · window · tokens · dim); the others compute nothing.

Errors: ConfigError for a budget not above the voters, an unknown strategy or empty windows and groups; RecipeError beside an allocator.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import Cost, Shape
from baywindow.window.block import Block
from baywindow.window.caches._cost import budgeted_cost, voting_flops
from baywindow.window.caches._votes import at_least, check_window
from baywindow.window.caches.base import Allocator, Moment, Selector

Strategy = Literal["max", "average"]
VOTERS: dict[Strategy, int] = {"max": 32, "average": 16}  # the reference code's suffixes


@technique(
    summary="keep whole short windows, scored as the task asks, chosen once for a group of layers",
    paper="arXiv:2503.17922",
    year=2025,
    needs=("weights", "kv"),
    claim="Whole windows chosen once for eight layers serve about as well as tokens chosen in each, at an eighth of the choosing.",
    departures=(
        "the task is an option: the paper's classifier of prompts is a trained model of its own",
        "a window that fits only in part is kept in part, so that the stated budget is met",
        "a last group of fewer layers is allowed and budgets are corrected for it; the reference code needs layers in whole groups",
    ),
    slot="reduce",
)
class WindowKV(Selector):
    strategy: Strategy = "max"  # max: one place matters (questions); average: all of it does (summaries)
    window_tokens: int | None = None  # the voters; None: 32 for max, 16 for average
    span_tokens: int = 8  # tokens that stay or go together
    group_layers: int = 8  # layers that share a choice
    beta: float = 14 / 8  # the mean budget over the last group's

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in VOTERS:
            raise ConfigError.bad_value("strategy", self.strategy, "'max' or 'average'")
        check_window(self.voters, 1, self.budget_tokens)
        for name in ("span_tokens", "group_layers", "beta"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")

    @property
    def voters(self) -> int:
        return VOTERS[self.strategy] if self.window_tokens is None else self.window_tokens

    def check_with(self, others: tuple[Technique, ...]) -> None:
        super().check_with(others)
        if sharer := next((o for o in others if isinstance(o, Allocator)), None):
            raise RecipeError(
                f"{self.card.name} and {sharer.card.name} cannot stand in one recipe: {self.card.name} keeps the same windows in all "
                "heads, so there is nothing to share out among them",
                hint="choose a cache that scores each head, e.g. snapkv",
            )

    def query_window(self) -> int:
        return self.voters

    def budget(self, moment: Moment) -> Tensor:
        layers = [layer.index for layer in moment.info.full_layers]
        group = layers.index(moment.layer.index) // self.group_layers
        mean = at_least(super().budget(moment), self.voters + 1)
        rows = [
            falling(int(b) - self.voters, int(n) - self.voters, group_sizes(len(layers), self.group_layers), self.beta)[group]
            for b, n in zip(mean.tolist(), moment.seen.tolist(), strict=True)
        ]
        return torch.tensor(rows, device=mean.device) + self.voters

    def score(self, moment: Moment, block: Block) -> Tensor:
        layers = [layer.index for layer in moment.info.full_layers]
        if layers.index(moment.layer.index) % self.group_layers == 0 or "scores" not in moment.shared:
            moment.shared["scores"] = self._look(moment, block)
        return moment.shared["scores"]

    def _look(self, moment: Moment, block: Block) -> Tensor:
        """Scores [B, 1, L] from this layer's own votes; the voters' tokens get +inf."""
        positions = block.head_positions[:, 0]  # all heads hold the same
        weights = moment.weights(moment.queries, moment.q_pos, block)
        votes = (weights * (moment.q_pos >= 0)[:, None, :, None]).sum(dim=2)  # [B, Hq, L]
        first = torch.where(moment.q_pos >= 0, moment.q_pos, torch.iinfo(torch.long).max).amin(dim=1)
        asked = moment.protected(block)[:, 0]
        voting = (positions >= first[:, None]) & ~asked
        scored = (positions >= 0) & ~voting & ~asked
        scores = spans(votes, scored, self.span_tokens, self.strategy)
        return scores.masked_fill(voting, torch.inf)[:, None]

    def cost(self, shape: Shape) -> Cost:
        looking = -(-shape.layers // self.group_layers)
        return budgeted_cost(self, shape, voting_flops(shape, self.voters) * looking // shape.layers)


def spans(votes: Tensor, scored: Tensor, span: int, strategy: Strategy) -> Tensor:
    """Each token's score is that of the window it stands in: [B, L] from votes [B, Hq, L]; 0 where not ``scored`` [B, L].

    Windows are cut from the first scored token on. ``average``: the mean over heads and tokens; ``max``: over each head's best half.
    """
    B, H, L = votes.shape
    rank = scored.long().cumsum(dim=1) - 1
    count = -(-L // span)
    spread = votes.new_full((B, H, count * span + 1), -torch.inf)  # the last slot takes what is not scored
    at = torch.where(scored, rank, count * span)[:, None].expand(-1, H, -1)
    windows = spread.scatter(2, at, votes)[..., :-1].view(B, H, count, span)
    best = windows if strategy == "average" else windows.topk(max(1, span // 2), dim=-1).values
    there = best > -torch.inf
    mean = best.masked_fill(~there, 0.0).sum(dim=(1, 3)) / there.sum(dim=(1, 3)).clamp(min=1)  # [B, windows]
    return mean.gather(1, (rank // span).clamp(min=0)).masked_fill(~scored, 0.0)


def group_sizes(layers: int, size: int) -> list[int]:
    """Layers in each group; the last may be smaller."""
    return [min(size, layers - start) for start in range(0, layers, size)]


def falling(mean: int, longest: int, sizes: list[int], beta: float) -> list[int]:
    """A budget for each group of layers: equal steps down to ``mean`` / ``beta``, the mean over all layers at most ``mean``.

    If the first would exceed ``longest``, the tokens there are, it gets all of them and the others share what that leaves.
    """
    layers = sum(sizes)
    if len(sizes) == 1 or mean >= longest:
        return [mean] * len(sizes)
    from_last = sum(size * (len(sizes) - 1 - g) for g, size in enumerate(sizes))
    last = mean / beta
    step = (mean - last) * layers / from_last
    first = last + step * (len(sizes) - 1)
    if first > longest:
        step = (longest - mean) * layers / sum(size * g for g, size in enumerate(sizes))
        first = float(longest)
    return [max(0, int(first - g * step + 1e-9)) for g in range(len(sizes))]
