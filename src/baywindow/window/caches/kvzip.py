"""KVzip: let the model repeat its context, and keep the pairs it looks at while doing so.

Paper: Kim and others, 2025, "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction", arXiv 2505.23416; reference
codes read: snu-mllab/KVzip, NVIDIA/kvpress.

Idea: whatever is needed to write the context down again is enough for any question. After prefill the context is fed once more, chunk
by chunk, behind an instruction to repeat it; a key/value pair's score is the largest softmax weight any of these queries gives it,
among the first tokens, the chunk and the repetition. The best pairs of all layers and heads together stay.

Departs from the paper: inside plain ``generate`` no tokenizer is at hand, so the instruction is left out and the context is simply
repeated; give ``attach`` the tokenizer (`Prefilled` does) to have it. Memory of dropped pairs is really freed (others mask).

Shapes and units: ``budget_tokens`` is the mean per key/value head over all layers and heads; scores float32 [B, H, L] a layer.

Cost: a second pass over the context that also writes out attention weights, about twice the prefill; nothing later.

Errors: ConfigError for a budget not above ``sink_tokens`` or a chunk below 1; CapabilityError for a prompt given as embeddings.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from baywindow.budget import Budgeted
from baywindow.errors import CapabilityError, ConfigError
from baywindow.registry import technique
from baywindow.window.base import Cost, Shape
from baywindow.window.caches._cost import budgeted_cost
from baywindow.window.caches.base import Finisher, Seen, Whole, top_of_each_head

FIRST = "\n\nRepeat the previous context exactly."  # Appendix A of the paper gives the two instructions
LATER = "\n\nRepeat the part of the previous context exactly, starting with"
ROWS = 64  # query rows whose weights are held at once


@technique(
    summary="let the model repeat its context and keep the pairs it looks at meanwhile",
    paper="arXiv:2505.23416",
    year=2025,
    needs=("weights", "kv"),
    claim="What it takes to repeat a context answers later questions too: small budgets keep facts no question pointed at.",
    departures=("without a tokenizer the instruction is left out and the context is only repeated",),
    slot="reduce",
)
class KVzip(Finisher, Budgeted):
    chunk_tokens: int = 2048
    overlap_tokens: int = 8  # of the previous chunk, behind the instruction
    sink_tokens: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("chunk_tokens", 1), ("overlap_tokens", 0), ("sink_tokens", 0)):
            if getattr(self, name) < least:
                raise ConfigError.bad_value(name, getattr(self, name), f"at least {least}")
        if self.budget_tokens is not None and self.budget_tokens <= self.sink_tokens:
            raise ConfigError.bad_value("budget_tokens", self.budget_tokens, f"larger than sink_tokens={self.sink_tokens}")

    def finish(self, whole: Whole) -> None:
        budget = torch.tensor([self.budget_of(int(n)) for n in whole.seen.tolist()]).clamp(min=self.sink_tokens + 1)
        if bool((budget >= whole.seen.cpu()).all()):
            return
        if not whole.ids.numel():
            raise CapabilityError("kvzip repeats the context and needs its token ids", hint="pass input_ids, not inputs_embeds")
        rows = [row[row >= 0][: int(n)] for row, n in zip(whole.ids, whole.seen.tolist(), strict=True)]
        scores: dict[int, Tensor] = {}
        for start in range(0, max(len(row) for row in rows), self.chunk_tokens):
            stop = start + self.chunk_tokens
            asked = [self._request(row, start, stop, whole.tokenizer) for row in rows]
            whole.forward(right_aligned(asked), lambda seen, a=start, b=stop: self._look(seen, scores, a, b))  # type: ignore[misc]
        self._keep(whole, scores, budget)

    def _request(self, row: Tensor, start: int, stop: int, tokenizer: Any) -> Tensor:
        """Instruction, the end of the previous chunk, the turn to answer, and the chunk itself; empty if the row ended before."""
        chunk = row[start:stop]
        if not len(chunk) or tokenizer is None:
            return chunk
        said = encode(tokenizer, LATER if start else FIRST)
        overlap = row[max(0, start - self.overlap_tokens) : start]
        return torch.cat([said, overlap, encode(tokenizer, answer_turn(tokenizer)), chunk])

    def _look(self, seen: Seen, scores: dict[int, Tensor], start: int, stop: int) -> None:
        """Raise the scores of the chunk's pairs to the largest weight a query of this forward gives them."""
        positions = seen.block.head_positions
        n = seen.queries.shape[2]
        new = torch.zeros_like(positions, dtype=torch.bool)
        new[..., -n:] = True
        chunk = (positions >= start) & (positions < stop) & ~new
        among = chunk | new | ((positions >= 0) & (positions < self.sink_tokens))
        everything = bool((among | (positions < 0)).all())  # a prompt of one chunk
        best = torch.zeros(positions.shape, device=positions.device)
        group = seen.layer.group
        for first in range(0, n, ROWS):
            last = min(n, first + ROWS)
            weights = seen.weights(first, last)
            if not everything:
                weights = weights * among.repeat_interleave(group, dim=1)[:, :, None]
                weights /= weights.sum(dim=-1, keepdim=True).clamp(min=1e-30)  # softmax among these keys only
            real = seen.q_pos[:, first:last] >= 0
            if not bool(real.all()):
                weights = weights * real[:, None, :, None]
            best = torch.maximum(best, weights.amax(dim=2).reshape(*positions.shape[:2], group, -1).amax(dim=2))
        held = torch.where(chunk, best, torch.zeros_like(best))[..., :-n]
        known = scores.get(seen.layer.index)
        scores[seen.layer.index] = held if known is None else torch.maximum(known, held)

    def _keep(self, whole: Whole, scores: dict[int, Tensor], budget: Tensor) -> None:
        """The best pairs of all layers and heads of a row, the first tokens and the question always among them."""
        layers = [layer.index for layer in whole.layers]
        positions = {i: whole.block(i).head_positions for i in layers}
        asked = {i: torch.zeros_like(p, dtype=torch.bool) for i, p in positions.items()}
        if whole.protect_from is not None:
            asked = {i: p >= whole.protect_from[:, None, None] for i, p in positions.items()}
        flat, counted = [], []
        for i in layers:
            held = (positions[i] >= 0) & ~asked[i]
            flat.append(scores[i].masked_fill(held & (positions[i] < self.sink_tokens), torch.inf).flatten(1))
            counted.append(held.flatten(1))
        pairs = sum(layer.kv_heads for layer in whole.layers)
        total = (budget * pairs).to(flat[0].device)
        chosen = top_of_each_head(torch.cat(flat, dim=1)[:, None], torch.cat(counted, dim=1)[:, None], total)[:, 0]
        for i, part in zip(layers, torch.split(chosen, [f.shape[1] for f in flat], dim=1), strict=True):
            whole.keep(i, part.view_as(positions[i]) | asked[i])

    def cost(self, shape: Shape) -> Cost:
        n = shape.prompt_tokens
        return budgeted_cost(self, shape, shape.attention_flops(n, n + min(n, self.chunk_tokens)))


def right_aligned(rows: list[Tensor]) -> Tensor:
    """Token rows of different lengths as [B, m], −1 in front of the shorter ones."""
    longest = max(len(row) for row in rows)
    return torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0), value=-1) for row in rows])


def encode(tokenizer: Any, text: str) -> Tensor:
    """Token ids [n] without special tokens added; those of a chat template's own marks are kept."""
    return torch.tensor(tokenizer.encode(text, add_special_tokens=False), dtype=torch.long)


def answer_turn(tokenizer: Any) -> str:
    """What a chat template puts between the user's words and the answer; a line break where there is no template."""
    if not getattr(tokenizer, "chat_template", None):
        return "\n"
    mark = "\x1fcontext\x1f"
    rendered: str = tokenizer.apply_chat_template([{"role": "user", "content": mark}], add_generation_prompt=True, tokenize=False)
    return rendered.partition(mark)[2]
