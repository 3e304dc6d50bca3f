"""InfLLM: a query sees the first tokens, a window, and the few far blocks whose representative keys match.

Paper: Xiao and others, 2024, "InfLLM: Training-Free Long-Context Extrapolation for LLMs with an Efficient Context Memory", arXiv
2402.04617; reference code read: thunlp/InfLLM.

Idea: what leaves the window of ``local_tokens`` is filed in blocks. A token's score is the mean of q·k over the ``local_tokens`` queries
behind it (Eq. 4); the mean key of a block's ``representatives`` best tokens stands for the block. Text is read in pieces of
``piece_tokens``; each piece, and each step of decoding, looks up the ``blocks`` blocks that its mean query matches best, alike for all
heads. Whatever lies beyond the window (first tokens, blocks, tokens on their way into a block) is met at the window's own largest
distance, so no distance is one the model was not trained for. One softmax runs over all of it. Far blocks lie apart: in host memory
beside an accelerator, in a mapped temporary file beside a CPU; only those looked up come back.

Departs from the paper: representatives are chosen for a key/value head, by the mean of its query heads, where the reference chooses for
each query head. Scores are the paper's dot products; the reference code uses attention weights, which no fused kernel gives. On the device
stays what the last lookup read, where the reference keeps the 32 blocks used last.

Shapes and units: tokens; block keys [B, blocks, H, D]; the queries of a window [B, H, window, D] are kept until the blocks they score are
filed. The number of tokens a query reads is constant, and so is what lies on the device, but for one block key in ``block_tokens``.

Cost: scoring a block is a running sum over queries and one product a token; a lookup one product a block.

Errors: ConfigError for options below 1 or more representatives than a block has tokens; RecipeError beside a position scheme or a cache
that drops tokens.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import UNLIMITED_TOKENS, Cost, LayerInfo, ModelInfo, Shape, group_mean
from baywindow.window.caches.base import Finisher, Reducer
from baywindow.window.patterns._capped import capped_beyond
from baywindow.window.patterns.base import Pattern
from baywindow.window.positions.base import Asked, Branch, Position
from baywindow.window.recall import Held, Lookup, Phase, Recaller


@technique(
    summary="a piece sees first tokens, a window, and far blocks whose representative keys match",
    paper="arXiv:2402.04617",
    year=2024,
    needs=("weights", "kv"),
    claim="A short-window model answers passkeys at many times its window; looked-up blocks beat random ones at equal budget.",
    departures=(
        "representatives are chosen for a key/value head by the mean of its query heads: one block key for what shares keys",
        "scores are the paper's mean dot products; the reference code uses attention weights, which no fused kernel gives",
        "the device keeps the blocks of the last lookup, not those of the last few: what one piece reads, the next mostly reads again",
    ),
)
class InfLLM(Recaller, Pattern):
    hides_pairs: ClassVar[bool] = False
    counts_tokens: ClassVar[bool] = True
    lays_apart: ClassVar[bool] = True
    remembers: ClassVar[bool] = True

    sink_tokens: int = 128
    local_tokens: int = 4096  # the window; a model trained for less has its own
    block_tokens: int = 128
    blocks: int = 16  # looked up at once
    representatives: int = 4  # tokens of a block whose mean key stands for it
    piece_tokens: int = 512  # of a prompt that share one lookup

    def __post_init__(self) -> None:
        if self.sink_tokens < 0:
            raise ConfigError.bad_value("sink_tokens", self.sink_tokens, "0 or more")
        for name in ("local_tokens", "block_tokens", "blocks", "representatives", "piece_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        if self.representatives > self.block_tokens:
            raise ConfigError.bad_value("representatives", self.representatives, f"at most block_tokens={self.block_tokens}")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if other := next((o for o in others if isinstance(o, Position)), None):
            raise RecipeError(
                f"infllm and {other.card.name} cannot stand in one recipe: both say at which distance tokens meet",
                hint="choose one of them",
            )
        if dropper := next((o for o in others if isinstance(o, Reducer | Finisher)), None):
            raise RecipeError(
                f"infllm and {dropper.card.name} cannot stand in one recipe: {dropper.card.name} drops tokens that infllm would look up",
                hint="choose one of them; `+ offload` or a quantiser makes what infllm keeps smaller",
            )

    def local(self, info: ModelInfo) -> int:
        """The window in tokens on this model."""
        return min(self.local_tokens, info.trained_tokens)

    def reach(self, trained_tokens: int) -> int:
        return UNLIMITED_TOKENS

    def visible(self, asked: Asked, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.bool, device=k_pos.device)  # what is not to be seen is not looked up

    def branches(self, asked: Asked) -> list[Branch]:
        local = self.local(asked.info)
        return capped_beyond(asked, local, local - 1)

    # -- lookups ----------------------------------------------------------------------------------------------------------------

    def near_tokens(self, info: ModelInfo, layer: LayerInfo) -> int:
        return self.local(info) + self.block_tokens

    def lookup_queries(self, phase: Phase, n: int) -> int:
        return self.piece_tokens

    def learn(self, held: Held) -> None:
        """All that lookups need is written down while the text is read; here only the room for it is made, once."""
        if "queries" in held.state:
            return
        local, (B, H, _, D) = self.local(held.info), held.block.keys.shape  # nothing lies apart yet
        ring = local + self.piece_tokens + 2 * self.block_tokens
        held.state["queries"] = held.block.keys.new_zeros(B, H, ring + 1, D)  # by rank modulo `ring`; the last place takes padding
        held.state["keys"] = held.block.keys.new_zeros(B, 0, H, D)
        held.state["filed"] = torch.zeros(B, dtype=torch.long)

    def recall(self, asked: Lookup) -> Tensor | None:
        self.learn(asked)
        order, before, total = ranks(asked)
        ready = [max(0, n - self.local(asked.info) - self.sink_tokens) // self.block_tokens for n in before]
        filed = asked.state["filed"].tolist()
        for i in range(min(filed), max(ready)):
            self._file(asked, order, i, [b for b in range(len(ready)) if filed[b] <= i < ready[b]])
        asked.state["filed"] = torch.tensor(ready)
        self._remember(asked, before)
        if max(ready) <= self.blocks:
            return None
        best = self._best(asked, ready)
        rows = [self._slots(order, b, ready[b], best[b], total[b]) for b in range(len(ready))]
        longest = max(len(row) for row in rows)
        return torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0), value=-1) for row in rows])[:, None]

    def _file(self, asked: Lookup, order: Tensor | None, i: int, rows: list[int]) -> None:
        """Make the key of block ``i``, which has left the window, in these rows."""
        if not rows:
            return
        state, size, local = asked.state, self.block_tokens, self.local(asked.info)
        first, device = self.sink_tokens + i * size, asked.q_pos.device
        at = torch.arange(first, first + size, device=device)
        block = asked.block.take((at.expand(asked.q_pos.shape[0], -1) if order is None else order[:, at])[:, None])
        block = block.rows(torch.tensor(rows, device=device))
        behind = torch.arange(first + 1, first + size + local, device=device) % (state["queries"].shape[2] - 1)
        turned = asked.turn(block.keys, block.positions.clamp(min=0))
        scores = mean_dot(state["queries"][rows][:, :, behind], turned, local)
        if i >= state["keys"].shape[1]:
            state["keys"] = torch.nn.functional.pad(state["keys"], (0, 0, 0, 0, 0, 1))
        state["keys"][rows, i] = representative(block.keys, scores, self.representatives)

    def _remember(self, asked: Lookup, before: list[int]) -> None:
        """Put the rotated queries of this piece, behind ``before`` tokens of each row, beside those of the window."""
        queries = group_mean(asked.turned(), asked.layer.kv_heads)
        ring, real = asked.state["queries"].shape[2] - 1, asked.q_pos >= 0
        rank = torch.tensor(before, device=real.device)[:, None] + real.long().cumsum(dim=1) - 1
        at = torch.where(real, rank % ring, ring)[:, None, :, None].expand_as(queries)
        asked.state["queries"].scatter_(2, at, queries)

    def _best(self, asked: Lookup, ready: list[int]) -> Tensor:
        """The blocks each row reads, ascending: int64 [B, blocks]; a row with fewer names some that are not ready."""
        real = (asked.q_pos >= 0)[:, None, :, None]
        mean = (asked.queries.float() * real).sum(dim=2, keepdim=True) / real.sum(dim=2, keepdim=True).clamp(min=1)
        far = torch.full((mean.shape[0], 1), self.local(asked.info) - 1, device=mean.device)
        query = group_mean(asked.turn(mean.to(asked.queries.dtype), far), asked.layer.kv_heads)[:, :, 0]
        scores = torch.einsum("bhd,bchd->bc", query.float(), asked.state["keys"].float())
        for b, count in enumerate(ready):
            scores[b, count:] = -torch.inf
        return scores.topk(self.blocks, dim=1).indices.sort(dim=1).values

    def _slots(self, order: Tensor | None, b: int, ready: int, best: Tensor, total: int) -> Tensor:
        """The slots of row ``b``: first tokens, chosen blocks, and everything that is in no block yet."""
        blocks = best[best < ready] if ready > self.blocks else torch.arange(ready, device=best.device)
        inside = torch.arange(self.block_tokens, device=best.device)
        chosen = (self.sink_tokens + blocks[:, None] * self.block_tokens + inside).flatten()
        first = torch.arange(min(self.sink_tokens, total), device=best.device)
        rest = torch.arange(min(self.sink_tokens, total) + ready * self.block_tokens, total, device=best.device)
        rank = torch.cat([first, chosen, rest])
        return rank if order is None else order[b, rank]

    def cost(self, shape: Shape) -> Cost:
        n, kept = shape.prompt_tokens, shape.prompt_tokens * shape.token_bytes
        filed = max(0, n - self.sink_tokens - self.local_tokens)
        reads = min(n, self.sink_tokens + self.blocks * self.block_tokens + self.local_tokens + self.block_tokens)
        lookups = -(-n // self.piece_tokens) * (filed // self.block_tokens)
        flops = 2 * shape.layers * shape.kv_heads * shape.head_dim * (filed + lookups)
        keys = shape.layers * shape.kv_heads * shape.head_dim * shape.element_bytes
        held = keys * (filed // self.block_tokens + self.local_tokens + self.piece_tokens + 2 * self.block_tokens)
        return Cost(flops=flops, bytes_kept=kept + held, bytes_read=reads * shape.token_bytes)


def ranks(asked: Lookup) -> tuple[Tensor | None, list[int], list[int]]:
    """The slot of every token by its rank in its row, [B, L] (holes behind the last token), or None if both are the same; how many tokens
    each row had before these queries, and with them."""
    B, L = asked.q_pos.shape[0], asked.block.length
    if not asked.holes:
        return None, [asked.past] * B, [L] * B
    positions = asked.block.positions
    held = (positions if positions.dim() == 2 else positions[:, 0]) >= 0
    return torch.argsort(~held, dim=1, stable=True), held[:, : asked.past].sum(dim=1).tolist(), held.sum(dim=1).tolist()


def mean_dot(queries: Tensor, keys: Tensor, local: int) -> Tensor:
    """Score of m keys [B, H, m, D] by the ``local`` queries behind each, of ``queries`` [B, H, m − 1 + local, D]: float32 [B, H, m].

    The first query stands right behind the first key. A sum over a stretch is the difference of two running sums.
    """
    m = keys.shape[2]
    sums = torch.nn.functional.pad(queries.float().cumsum(dim=2), (0, 0, 1, 0))
    return ((sums[:, :, local : local + m] - sums[:, :, :m]) * keys.float()).sum(dim=-1) / local


def representative(keys: Tensor, scores: Tensor, count: int) -> Tensor:
    """The mean of each head's ``count`` best keys: [B, H, D] from [B, H, m, D] and [B, H, m]."""
    best = scores.topk(count, dim=-1).indices[..., None].expand(-1, -1, -1, keys.shape[-1])
    return keys.gather(2, best).mean(dim=2)
