"""SirLLM: between turns, keep the tokens that surprised the model most, and let old surprises fade.

Paper: Yao and others, 2024, "SirLLM: Streaming Infinite Retentive LLM", arXiv 2405.12528; reference code read: Zoeyyao27/SirLLM.

Idea: what a model could not foresee is what it would miss. Every token keeps its surprisal −log p(token | what came before). When a turn
has come in and the cache is over its budget, the turn stays, and of what is older the first tokens and the most surprising ones;
room that is left goes to the newest. Then all older values are multiplied by ``decay``. All layers and heads keep the same
tokens, numbered inside the cache 0, 1, 2, ….

Departs from the paper: the choice is made when a turn has been read, not before it, so a turn sees all that was held until then. A turn
that does not fit beside the first tokens is chosen from like the rest. A turn's first token has its own surprisal, not its turn's
largest. The released code scores a token by the probability of its predecessor being repeated; here it is that of the paper.

Shapes and units: tokens, the same in all layers and heads; surprisals in nats, float32, a tag beside every token.

Cost: the vocabulary head runs for every token of the prompt, 2 · hidden · vocabulary FLOPs each (not in `cost`, which knows no vocabulary);
choosing is a sort.

Errors: ConfigError for a budget not above the first and recent tokens, or a decay outside 0 to 1; RecipeError beside caches that take
tokens from where their surprisals lie; CapabilityError for a prompt given as embeddings.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from baywindow.budget import Budgeted
from baywindow.errors import CapabilityError, ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import Cost, Shape
from baywindow.window.caches._cost import budgeted_cost
from baywindow.window.caches._renumber import by_rank
from baywindow.window.caches.base import SURPRISAL, CachePolicy, Codec, Finisher, Whole, top_of_each_head
from baywindow.window.positions.base import Asked


@technique(
    summary="between turns, keep the tokens that surprised the model most; old surprises fade",
    paper="arXiv:2405.12528",
    year=2024,
    needs=("weights", "kv", "logprobs"),
    claim="In a chat longer than the cache, tokens kept by surprisal recall an early item where sinks and a window have lost it.",
    departures=(
        "the choice is made when a turn has been read, not before: nothing tells a cache how long a turn will be",
        "a turn that does not fit is chosen from like the rest; the paper wants turns to fit",
        "a turn's first token has its own surprisal: the hidden state before it is at hand",
        "a token is scored by its own probability, as the paper says; the released code gathers its predecessor's",
    ),
    slot="reduce",
)
class SirLLM(Finisher, Budgeted):
    needs_raw_keys: ClassVar[bool] = True
    reads_surprisal: ClassVar[bool] = True

    sink_tokens: int = 4  # the first ones, always kept
    recent_tokens: int = 0  # of the budget, for the newest whatever they say; 0 in all published runs
    decay: float = 0.7  # of old surprisals at each turn: 1, 0.9 and 0.7 in the paper's three settings

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sink_tokens", "recent_tokens"):
            if getattr(self, name) < 0:
                raise ConfigError.bad_value(name, getattr(self, name), "0 or more")
        if not 0 < self.decay <= 1:
            raise ConfigError.bad_value("decay", self.decay, "above 0 and at most 1")
        if self.budget_tokens is not None and self.budget_tokens <= self.sink_tokens + self.recent_tokens:
            raise ConfigError.bad_value("budget_tokens", self.budget_tokens, f"larger than {self.sink_tokens + self.recent_tokens}")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if other := next((o for o in others if isinstance(o, CachePolicy) and not isinstance(o, Codec)), None):
            raise RecipeError(
                f"{self.card.name} and {other.card.name} cannot stand in one recipe: {self.card.name} keeps a value beside every token "
                "from turn to turn, so the tokens must stay where they are",
                hint="choose a cache that acts once after the prompt, e.g. kvzip",
            )

    def renumber(self, asked: Asked) -> tuple[Tensor, Tensor] | None:
        return by_rank(asked)

    def finish(self, whole: Whole) -> None:
        if not whole.layers:
            return
        block = whole.block(whole.layers[0].index)
        if SURPRISAL not in block.tags:
            raise CapabilityError("sirllm reads token ids", hint="pass input_ids, not inputs_embeds")
        positions, surprisal = block.head_positions[:, 0], block.tags[SURPRISAL][:, 0]
        old = (positions >= 0) & (positions < whole.turn_from.to(positions.device)[:, None])
        budget = torch.tensor([self.budget_of(int(n)) for n in whole.seen.tolist()], device=positions.device)
        asked = torch.zeros_like(old) if whole.protect_from is None else positions >= whole.protect_from[:, None]
        stay = self.chosen(positions.masked_fill(asked, -1), surprisal, old, budget) | asked
        for layer in whole.layers:
            held = whole.block(layer.index)
            tag = held.tags[SURPRISAL]
            tag.mul_(torch.where(old, self.decay, 1.0)[:, None])  # the store's own tensor
            whole.keep(layer.index, stay[:, None].expand_as(held.head_positions))

    def chosen(self, positions: Tensor, surprisal: Tensor, old: Tensor, budget: Tensor) -> Tensor:
        """What stays: bool [B, L], from true ``positions`` (−1: not to choose from), values, which are ``old``, and tokens [B]."""
        counted = positions >= 0
        sinks = counted & (positions < self.sink_tokens)
        turn = counted & ~old
        fits = turn.sum(dim=1) + (sinks & old).sum(dim=1) <= budget
        sure = sinks | (turn & fits[:, None])
        room = (budget - sure.sum(dim=1)).clamp(min=0)
        best = best_of(surprisal, counted & ~sure, (room - self.recent_tokens).clamp(min=0))
        newest = best_of(positions.float(), counted & ~sure & ~best, (room - best.sum(dim=1)).clamp(min=0))
        over = counted.sum(dim=1) > budget
        return torch.where(over[:, None], sure | best | newest, counted)

    def cost(self, shape: Shape) -> Cost:
        kept = min(self.budget_of(shape.prompt_tokens), shape.prompt_tokens)
        turned = 3 * shape.layers * shape.kv_heads * shape.head_dim * kept  # two products and a sum an element, at every step
        return budgeted_cost(self, shape, turned * max(1, shape.generated_tokens))


def best_of(values: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """The ``count`` [B] largest of each row: bool [B, L]."""
    return top_of_each_head(values[:, None], among[:, None], count)[:, 0]
