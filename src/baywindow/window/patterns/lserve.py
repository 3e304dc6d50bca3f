"""LServe: streaming heads read first tokens and a window; the others look up pages of keys while decoding.

Paper: Yang and others, 2025, "LServe: Efficient Long-sequence LLM Serving with Unified Sparse Attention", arXiv 2502.14866; reference code
read: mit-han-lab/omniserve.

Idea: a part of the key/value heads (``streaming_fraction``, those with the lowest gates) reads the first tokens and a window only, in
prompts by blocks and in decoding. The others read a prompt in full. In decoding they read whole pages: a page's logical parts keep the
channelwise least and greatest key, which bound q·k from above; the best part speaks for its page, the best pages are read, the newest
always, and the choice serves ``reuse_steps`` steps.

Departs from the paper: DuoAttention learns the gates by training on passkeys. Here `prepare` measures them without training: the gate of a
head is by how many nats the model gets worse at tokens it can only know from far back when that head alone streams. Query heads that
share keys share pages (the highest bound among them), so a page is read once. Nothing is quantised: a quantiser of the recipe
does that. What streaming heads no longer read stays held, and a step gathers as many slots for them as for the others.

Shapes and units: tokens; gates [layers, H]; bounds [B, H, parts, D] of keys at their angles; an index [B, H, m] a step. Pages are counted
from a head's first slot in use (a padded batch that is packed has holes inside, and cuts pages otherwise than a row alone).

Cost: two products a part every ``reuse_steps`` steps; a step reads ``budget_tokens`` a head; `prepare` runs a forward a head and sample.

Errors: ConfigError for impossible sizes; SourceError for a calibration text that is too short; RecipeError beside changing angles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baywindow.errors import ConfigError, RecipeError, SourceError
from baywindow.registry import Technique, technique
from baywindow.window.base import Calibrated, Calibration, Cost, LayerInfo, ModelInfo, Shape
from baywindow.window.blocks import BlockSelection
from baywindow.window.patterns.base import BlockPattern, Glance
from baywindow.window.positions.base import Position
from baywindow.window.positions.dpe import with_needle
from baywindow.window.recall import Held, Lookup, Recaller

LEAST_PAGES, NEEDLE_TOKENS = 3, 16  # the first as in the reference code


@technique(
    summary="streaming heads read first tokens and a window; others look up pages while decoding",
    paper="arXiv:2502.14866",
    year=2025,
    needs=("weights", "kv"),
    claim="At one budget, bounds of 16-token parts find more needles than bounds of whole pages, and a choice serves four steps.",
    departures=(
        "gates are measured by `prepare`, one head streaming at a time, and not learned as DuoAttention does: that takes training",
        "query heads that share keys share pages, so a page is read once",
        "nothing is quantised here: a quantiser of the recipe does that",
        "what streaming heads no longer read stays held, and their part of a step's index is padded to that of the others",
    ),
)
class LServe(Calibrated, Recaller, BlockPattern):
    streaming_fraction: float = 0.5  # of all key/value heads of full-attention layers
    sink_tokens: int = 128
    prefill_local_tokens: int = 8192  # a streaming head's window in prompts, in whole pages
    local_tokens: int = 256  # and in decoding
    budget_tokens: int = 4096  # that other heads read in decoding, in whole pages
    page_tokens: int = 64
    parts: int = 4  # logical pages of a page
    reuse_steps: int = 4  # decoding steps that one choice of pages serves
    samples: int = 3  # of the calibration text
    sample_tokens: int = 1024
    streaming_heads: tuple[int, ...] | None = None  # layer · kv_heads + head, given outright; None: by what `prepare` found

    def __post_init__(self) -> None:
        if not 0 <= self.streaming_fraction <= 1:
            raise ConfigError.bad_value("streaming_fraction", self.streaming_fraction, "between 0 and 1")
        if self.sink_tokens < 0:
            raise ConfigError.bad_value("sink_tokens", self.sink_tokens, "0 or more")
        for name in ("prefill_local_tokens", "local_tokens", "budget_tokens", "page_tokens", "parts", "reuse_steps", "samples"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        if self.page_tokens % self.parts:
            raise ConfigError.bad_value("parts", self.parts, f"a divisor of page_tokens={self.page_tokens}")
        if self.sample_tokens < (least := 4 * NEEDLE_TOKENS):
            raise ConfigError.bad_value("sample_tokens", self.sample_tokens, f"at least {least}")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if scheme := next((o for o in others if isinstance(o, Position) and not o.fixed), None):
            raise RecipeError(
                f"lserve and {scheme.card.name} cannot stand in one recipe: lserve bounds keys at the angles they keep, "
                f"and {scheme.card.name} gives them others at every step",
                hint="choose a scheme with fixed angles, e.g. yarn",
            )

    def ready(self, info: ModelInfo) -> bool:
        return self.streaming_heads is not None or self.streaming_fraction == 0 or super().ready(info)

    def streaming(self, info: ModelInfo, layer: LayerInfo) -> Tensor:
        """Which key/value heads of the layer stream: bool [H]."""
        heads = torch.zeros(layer.kv_heads, dtype=torch.bool)
        given = self.streaming_heads
        if given is None and self.streaming_fraction:
            given = lowest(info, info.arrays[self.card.name]["gates"], self.streaming_fraction)
        for index in given or ():
            if index // layer.kv_heads == layer.index:
                heads[index % layer.kv_heads] = True
        return heads

    # -- prompts ----------------------------------------------------------------------------------------------------------------

    def select(self, glance: Glance) -> BlockSelection | None:
        streams, size = self.streaming(glance.info, glance.layer).to(glance.q.device), self.page_tokens
        if not bool(streams.any()):
            return None
        starts = torch.arange(glance.offset, glance.length, size, device=glance.q.device)
        key = torch.arange(-(-glance.length // size), device=glance.q.device)
        own = (starts // size)[:, None]
        near = (key * size < self.sink_tokens) | (key >= own - -(-self.prefill_local_tokens // size))
        mask = (near | ~streams[:, None, None]) & (key <= own)
        return BlockSelection.of_mask(mask.expand(glance.q.shape[0], -1, -1, -1), q_tokens=size, k_tokens=size)

    # -- decoding ---------------------------------------------------------------------------------------------------------------

    def learn(self, held: Held) -> None:
        positions = held.block.first(held.past).head_positions
        front = (positions >= 0).long().argmax(dim=-1) if positions.shape[2] else positions.sum(dim=-1)
        none = held.block.keys.new_zeros(*front.shape, 0, held.block.keys.shape[-1])
        held.state.update(front=front, filed=torch.zeros_like(front), low=none, high=none.clone())
        self._file(held, held.past)

    def recall(self, asked: Lookup) -> Tensor | None:
        state, length = asked.state, asked.block.length
        self._file(asked, length)
        tokens = length - state["front"]
        if "pages" not in state or bool((tokens % self.reuse_steps == 0).any()):
            self._choose(asked, tokens)
        streams = self.streaming(asked.info, asked.layer).to(tokens.device)[:, None]
        pages = torch.where(streams, -1, state["pages"])
        inside = torch.arange(self.page_tokens, device=tokens.device)
        read = (pages[..., None] * self.page_tokens + inside).masked_fill(pages[..., None] < 0, -1).flatten(2)
        first = torch.arange(self.sink_tokens, device=tokens.device)
        window = (tokens - self.local_tokens).clamp(min=0) // self.page_tokens * self.page_tokens
        recent = torch.where(streams[:, 0], window.clamp(min=self.sink_tokens), state["newest"] * self.page_tokens)
        recent = torch.minimum(recent, tokens - 1)  # the query's own token stands last, and once
        sinks = torch.where(streams & (first < recent[..., None]), first, -1)
        ranks = torch.cat([sinks, read], dim=-1) if bool(streams.any()) else read
        return self._slots(ranks, recent, state["front"], length)

    def _slots(self, ranks: Tensor, recent: Tensor, front: Tensor, length: int) -> Tensor:
        """``ranks`` [B, H, m] (−1: none) and everything from rank ``recent`` [B, H] on, as slots."""
        start = (front + recent)[..., None]
        newest = torch.arange(int(start.min()), length, device=ranks.device).expand(*ranks.shape[:2], -1)
        chosen = torch.where(ranks >= 0, ranks + front[..., None], -1)
        keep = (chosen >= 0).any(dim=0).any(dim=0)  # columns that are holes in every head are left out
        return torch.cat([chosen[..., keep], newest.masked_fill(newest < start, -1)], dim=-1)

    def _file(self, held: Held, upto: int) -> None:
        """Keep the least and greatest key of each channel for the logical parts that were filled since the last time."""
        state, size = held.state, self.page_tokens // self.parts
        filed = (upto - state["front"]).clamp(min=0) // size
        if bool((filed == state["filed"]).all()):
            return
        begin = state["front"] + state["filed"] * size
        base, width = int(begin.min()), int((filed - state["filed"]).max())
        slots = (begin - base)[..., None] + torch.arange(width * size, device=begin.device)
        keys = held.keys(base, upto)
        slots = slots.clamp(max=keys.shape[2] - 1)
        parts = keys.gather(2, slots[..., None].expand(-1, -1, -1, keys.shape[3])).reshape(*begin.shape, width, size, -1)
        real = held.block.head_positions[:, :, base:upto].gather(2, slots).reshape(*begin.shape, width, size, 1) >= 0
        at = state["filed"][..., None] + torch.arange(width, device=begin.device)
        at = torch.where(at < filed[..., None], at, int(filed.max()))[..., None].expand(-1, -1, -1, keys.shape[3])
        for name, empty, found in (("low", torch.inf, torch.amin), ("high", -torch.inf, torch.amax)):
            bound = found(parts.masked_fill(~real, empty), dim=3)
            grown = torch.nn.functional.pad(state[name], (0, 0, 0, int(filed.max()) + 1 - state[name].shape[2]))
            bound = bound.masked_fill(bound.isinf(), 0)  # a part without any token
            state[name] = grown.scatter(2, at, bound)[:, :, :-1]  # the last place took what is not full yet
        state["filed"] = filed

    def _choose(self, asked: Lookup, tokens: Tensor) -> None:
        """Pages to read besides the newest: int64 [B, H, pages], −1 for none; old choices stay where a row's turn has not come."""
        state = asked.state
        newest = (tokens - 1).clamp(min=0) // self.page_tokens
        count = max(LEAST_PAGES, self.budget_tokens // self.page_tokens) - 1
        scores = page_scores(part_bounds(asked.turned(), state["low"], state["high"]), self.parts)
        page = torch.arange(scores.shape[2], device=scores.device)
        scores = scores.masked_fill(page >= newest[..., None], -torch.inf)
        best = torch.nn.functional.pad(scores, (0, max(0, count - scores.shape[2])), value=-torch.inf).topk(count, dim=-1)
        pages = best.indices.masked_fill(best.values == -torch.inf, -1)
        if "pages" in state:
            turn = tokens % self.reuse_steps == 0
            pages = torch.where(turn[..., None], pages, state["pages"])
            newest = torch.where(turn, newest, state["newest"])
        state["pages"], state["newest"] = pages, newest

    # -- which heads stream -----------------------------------------------------------------------------------------------------

    def prepare(self, calibration: Calibration) -> dict[str, NDArray[np.float32]]:
        texts, info = list(self._texts(calibration)), calibration.info
        gates = calibration.load_checkpoint().get("gates")
        if gates is None:
            gates = np.full((len(info.layers), max(layer.kv_heads for layer in info.layers)), np.nan, dtype=np.float32)
        trial = replace(self, prefill_local_tokens=self.local_tokens, streaming_heads=())
        base = [calibration.score_with(trial, text, NEEDLE_TOKENS // 2) for text in texts]
        for layer in info.full_layers:
            for head in range(layer.kv_heads):
                if np.isnan(gates[layer.index, head]):
                    alone = replace(trial, streaming_heads=(layer.index * layer.kv_heads + head,))
                    worse = [calibration.score_with(alone, t, NEEDLE_TOKENS // 2) - b for t, b in zip(texts, base, strict=True)]
                    gates[layer.index, head] = sum(worse) / len(worse)
                    calibration.save_checkpoint({"gates": gates})
        return {"gates": gates}

    def _texts(self, calibration: Calibration) -> Iterator[Tensor]:
        """Pieces [1, n] that end with a stretch from far before: its second half can be known from there alone."""
        n, held = self.sample_tokens, calibration.ids.shape[1]
        if held < n:
            raise SourceError(f"the calibration text has {held} tokens; one sample is {n}", hint="give more text, or fewer sample_tokens")
        rng = np.random.default_rng(0)
        for i in range(self.samples):
            start = i * n if (i + 1) * n <= held else int(rng.integers(0, held - n + 1))
            at = int(rng.uniform(self.sink_tokens, max(self.sink_tokens + 1, n - self.local_tokens - 3 * NEEDLE_TOKENS)))
            yield with_needle(calibration.ids[:, start : start + n], at, NEEDLE_TOKENS)

    def cost(self, shape: Shape) -> Cost:
        n, kept = shape.prompt_tokens, shape.prompt_tokens * shape.token_bytes
        part_tokens = self.page_tokens // self.parts
        bounds = 2 * shape.layers * shape.kv_heads * shape.head_dim * (n // part_tokens)
        choosing = 4 * shape.layers * shape.q_heads * shape.head_dim * (n // part_tokens) * (shape.generated_tokens // self.reuse_steps)
        dense = min(n, max(LEAST_PAGES * self.page_tokens, self.budget_tokens))
        streaming = min(n, self.sink_tokens + self.local_tokens)
        reads = self.streaming_fraction * streaming + (1 - self.streaming_fraction) * dense
        return Cost(flops=choosing, bytes_kept=kept + bounds * shape.element_bytes, bytes_read=round(reads * shape.token_bytes))


def lowest(info: ModelInfo, gates: NDArray[np.float32], fraction: float) -> tuple[int, ...]:
    """The fraction of heads with the lowest gates [layers, H], as layer · kv_heads + head; the earlier of two equal ones first."""
    heads = [(float(gates[layer.index, h]), layer.index * layer.kv_heads + h) for layer in info.full_layers for h in range(layer.kv_heads)]
    return tuple(index for _, index in sorted(heads)[: round(fraction * len(heads))])


def part_bounds(queries: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The most that q·k can be for any key between the bounds [B, H, S, D], the highest of the query heads [B, Hq, 1, D] that share
    them: float32 [B, H, S]. A channel contributes the greater of q·low and q·high, which the sign of q decides."""
    grouped = queries[:, :, 0].float().reshape(*low.shape[:2], -1, low.shape[3])
    most: Tensor = grouped.clamp(min=0) @ high.float().transpose(2, 3) + grouped.clamp(max=0) @ low.float().transpose(2, 3)
    return most.amax(dim=2)


def page_scores(bounds: Tensor, parts: int) -> Tensor:
    """The best of each whole page's ``parts`` bounds: [B, H, pages] from [B, H, S]."""
    whole = bounds.shape[2] // parts * parts
    return bounds[..., :whole].reshape(*bounds.shape[:2], -1, parts).amax(dim=-1)
