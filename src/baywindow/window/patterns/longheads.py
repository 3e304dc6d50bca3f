"""LongHeads: every head reads the few chunks that matter to it, at positions the model was trained for.

Paper: Lu and others, 2024, "LongHeads: Multi-Head Attention is Secretly a Long Context Processor", arXiv 2402.10685; reference code read:
LuLuLuyi/LongHeads.

Idea: the text is cut into chunks. A finished chunk gets a key for each head: what its tokens see of each other (both ways, positions
inside the chunk) is averaged, and that mean then asks the chunk's own keys. Every query of every head takes the first, the previous and
its own chunk and those whose keys it matches best, until ``attention_tokens`` are full. The chosen chunks stand in their order at positions
0, 1, 2, …, so no distance exceeds ``attention_tokens``, and one softmax runs over them.

Departs from the paper: a prompt's token sees itself too, as it does in decoding (the reference code leaves it out while reading). With
grouped queries a chunk has a key for every query head. The rest as in the reference, the matching of un-rotated queries with keys made
of rotated ones included.

Shapes and units: tokens; a chunk key [Hq, D]; choices [Hq, n, chunks], each query for itself. All keys stay held, un-rotated, and the
queries of the chunk that is not full yet beside them.

Cost: n · ``attention_tokens`` pairs instead of n²/2, computed chunk by chunk for all the queries that chose it; a decoding step reads the
chosen chunks alone.

Errors: ConfigError unless ``attention_tokens`` is three or more whole chunks; CapabilityError for a model whose values are
not as wide as its keys, or whose window is below three chunks; RecipeError beside a position scheme or a cache that drops tokens.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from baywindow.errors import CapabilityError, ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import UNLIMITED_TOKENS, Cost, LayerInfo, ModelInfo, Shape
from baywindow.window.caches.base import Finisher, Reducer
from baywindow.window.patterns.base import Glance, OwnKernel, Turn
from baywindow.window.positions.base import Position

LOGITS = 2**24  # held at once; more queries go one block of rows after the other
Row = tuple[Tensor, Tensor, Tensor]  # q [Hq, n, D], k [H, L, D] and v [H, L, Dv] of one sequence, un-rotated
CHUNK_TOKENS = 256  # the paper's
LEAST_CHUNKS = 3  # the first, the previous and the query's own


@technique(
    summary="each head reads the few chunks that match its query, renumbered into the trained window",
    paper="arXiv:2402.10685",
    year=2024,
    needs=("weights", "kv"),
    claim="Attending to 16 chunks inside the trained length finds passkeys at 4 to 8 times that length; heads choose differently.",
    departures=("a prompt's token sees itself too, as in decoding; the reference code leaves it out while it reads a prompt",),
)
class LongHeads(OwnKernel):
    decodes: ClassVar[bool] = True
    needs_raw_keys: ClassVar[bool] = True
    remembers: ClassVar[bool] = True

    chunk_tokens: int | None = None  # None: 256, or a sixteenth of a shorter `attention_tokens`
    attention_tokens: int | None = None  # that a query of a head reads, in whole chunks; None: the trained window

    def __post_init__(self) -> None:
        C, most = self.chunk_tokens, self.attention_tokens
        if C is not None and C < 1:
            raise ConfigError.bad_value("chunk_tokens", C, "at least 1")
        if most is not None and (most < LEAST_CHUNKS * (C or 1) or most % (C or 1)):
            raise ConfigError.bad_value("attention_tokens", most, f"{LEAST_CHUNKS} or more times chunk_tokens={C or 1}")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if other := next((o for o in others if isinstance(o, Position)), None):
            raise RecipeError(
                f"longheads and {other.card.name} cannot stand in one recipe: both say at which distance tokens meet",
                hint="choose one of them",
            )
        if dropper := next((o for o in others if isinstance(o, Reducer | Finisher)), None):
            raise RecipeError(
                f"longheads and {dropper.card.name} cannot stand in one recipe: {dropper.card.name} drops tokens, and a chunk's key "
                "speaks for all of its tokens",
                hint="choose one of them",
            )

    def check_model(self, info: ModelInfo) -> None:
        if self.sizes(info.trained_tokens)[1] < LEAST_CHUNKS:
            raise CapabilityError(
                f"longheads reads {LEAST_CHUNKS} chunks at least; {info.name} was trained for {info.trained_tokens} tokens",
                hint=f"longheads(chunk_tokens={max(1, info.trained_tokens // 16)})",
            )
        if any(layer.value_dim != layer.head_dim for layer in info.full_layers):
            raise CapabilityError("longheads asks keys with a mean of values: both must be equally wide", hint="use infllm")

    def sizes(self, trained_tokens: int) -> tuple[int, int]:
        """Tokens of a chunk, and how many chunks a query reads at most."""
        reads = self.attention_tokens or trained_tokens
        C = self.chunk_tokens or max(1, min(CHUNK_TOKENS, reads // 16))
        return C, reads // C

    def reach(self, trained_tokens: int) -> int:
        return UNLIMITED_TOKENS if (self.attention_tokens or 0) <= trained_tokens else 0

    def attend(self, glance: Glance) -> Tensor:
        (C, most), outs = self.sizes(glance.info.trained_tokens), []
        assert glance.raw_k is not None  # `needs_raw_keys` says so
        for b in range(glance.raw_q.shape[0]):
            row = glance.raw_q[b], glance.raw_k[b], glance.v[b]
            ids = chosen(row[0], all_chunk_keys(glance, b, row, C), glance.length, C, most)
            outs.append(over_chunks(row, ids, C, glance.layer, glance.turn))
        return torch.stack(outs)

    def cost(self, shape: Shape) -> Cost:
        n, kept = shape.prompt_tokens, shape.prompt_tokens * shape.token_bytes
        C, most = self.sizes(self.attention_tokens or n)
        making = shape.attention_flops(n, C) + shape.attention_flops(n // C, C)
        matching = shape.attention_flops(n, n // C) // 4  # q·k alone, over half of the chunks
        return Cost(flops=making + matching, bytes_kept=kept, bytes_read=min(n, most * C) * shape.token_bytes)


def all_chunk_keys(glance: Glance, b: int, row: Row, size: int) -> Tensor:
    """The keys of all full chunks of row ``b``: [G, Hq, D]. New ones are made, and queries of the unfinished chunk kept, in the state."""
    (q, k, v), state = row, glance.state
    first, full = glance.offset // size, glance.length // size
    if "queries" not in state:
        state["queries"] = q.new_zeros(glance.raw_q.shape[0], q.shape[0], size, q.shape[2])
        state["chunk_keys"] = q.new_zeros(glance.raw_q.shape[0], 0, q.shape[0], q.shape[2])
    unfinished = torch.cat([state["queries"][b, :, : glance.offset % size], q], dim=1)  # from the beginning of chunk `first` on
    if (more := full - state["chunk_keys"].shape[1]) > 0:
        state["chunk_keys"] = torch.nn.functional.pad(state["chunk_keys"], (0, 0, 0, 0, 0, more))
    if full > first:
        of_q, of_k, of_v = (
            x[:, : (full - first) * size].reshape(x.shape[0], -1, size, x.shape[2]).transpose(0, 1)
            for x in (unfinished, k[:, first * size :], v[:, first * size :])
        )
        state["chunk_keys"][b, first:full] = chunk_keys(of_q, of_k, of_v, glance.layer, glance.turn)
    state["queries"][b, :, : glance.length % size] = unfinished[:, (full - first) * size :]
    return state["chunk_keys"][b, :full]


def chunk_keys(q: Tensor, k: Tensor, v: Tensor, layer: LayerInfo, turn: Turn) -> Tensor:
    """[G, Hq, D] for G chunks of C tokens: q [G, Hq, C, D], k and v [G, H, C, D], un-rotated."""
    inside = torch.arange(q.shape[2], device=q.device).expand(q.shape[0], -1)
    q, k = turn(q, inside), turn(k, inside).repeat_interleave(layer.group, dim=1)
    mean = sdpa(q, k, v.repeat_interleave(layer.group, dim=1), scale=layer.scaling).mean(dim=2, keepdim=True)
    return sdpa(mean, k, k, scale=layer.scaling)[:, :, 0]


def chosen(q: Tensor, keys: Tensor, total: int, size: int, most: int) -> Tensor:
    """Which chunks the last n of ``total`` tokens read: int64 [Hq, n, m ≤ most], ascending, −1 behind where there are fewer.

    ``q`` [Hq, n, D] is un-rotated; ``keys`` [G, Hq, D] are those of the full chunks.
    """
    n, count = q.shape[1], -(-total // size)
    own = torch.arange(total - n, total, device=q.device) // size
    chunk = torch.arange(count, device=q.device)
    scores = torch.nn.functional.pad(torch.einsum("hnd,ghd->hng", q, keys).float(), (0, count - keys.shape[0]))
    forced = (chunk == 0) | (chunk == own[:, None]) | (chunk == own[:, None] - 1)
    scores = scores.masked_fill(forced, torch.inf).masked_fill(chunk > own[:, None], -torch.inf)
    best = scores.topk(min(most, count), dim=-1)
    ids = best.indices.masked_fill(best.values == -torch.inf, count).sort(dim=-1).values
    return ids.masked_fill(ids == count, -1)


def over_chunks(row: Row, ids: Tensor, size: int, layer: LayerInfo, turn: Turn) -> Tensor:
    """The output [Hq, n, D] of the last n tokens' queries over the chunks they chose (``ids`` [Hq, n, m]).

    A key at place j of the chunk at rank r stands at r·C + j. Turning the query back by r·C instead lets a chunk's keys be rotated once,
    whatever its rank, and all queries that chose it meet it in one product.
    """
    (q, k, v), (Hq, n, m) = row, ids.shape
    total, device = k.shape[1], q.device
    count, inside = -(-total // size), torch.arange(size, device=device)
    head = torch.arange(Hq, device=device)[:, None, None] // layer.group
    units, unit = torch.unique((head * count + ids).masked_fill(ids < 0, -1), return_inverse=True)
    at = units.clamp(min=0)
    tokens = ((at % count) * size)[:, None] + inside
    which = (at // count)[:, None], tokens.clamp(max=total - 1)  # behind the last token nobody looks: it is the future
    k, v = turn(k[which][None], inside[None])[0], v[which]
    unit = unit.masked_fill(ids < 0, -1)
    out = q.new_empty(Hq, n, v.shape[-1])
    rows = max(1, LOGITS // (Hq * m * size))
    for start in range(0, n, rows):
        stop = min(n, start + rows)
        place = torch.arange(total - n + start, total - n + stop, device=device) % size
        out[:, start:stop] = _one_block(q[:, start:stop], (k, v), unit[:, start:stop], place, layer, turn)
    return out


def _one_block(q: Tensor, chunks: tuple[Tensor, Tensor], unit: Tensor, place: Tensor, layer: LayerInfo, turn: Turn) -> Tensor:
    """Queries q [Hq, n, D] at ``place`` [n] of their own chunks, over the units [U, C, D] that ``unit`` [Hq, n, m] names (−1: none)."""
    (k, v), (Hq, n, m), C = chunks, unit.shape, chunks[0].shape[1]
    last = (unit >= 0).sum(dim=-1)[0] - 1  # rank of the query's own chunk, alike in all heads
    back = (last[:, None] - torch.arange(m, device=q.device)).clamp(min=0) * C + place[:, None]
    turned = turn(q.repeat_interleave(m, dim=1)[None], back.reshape(1, -1))[0].reshape(Hq * n * m, -1)
    logits = torch.full((Hq * n * m, C), -torch.inf, dtype=torch.float32, device=q.device)
    groups = _groups(unit.flatten())
    for u, at in groups:
        product = (turned[at] @ k[u].T).float().mul_(layer.scaling)
        logits[at] = product if layer.softcap is None else torch.tanh(product / layer.softcap) * layer.softcap
    by_query = logits.view(Hq, n, m, C)
    future, each = torch.arange(C, device=q.device) > place[:, None], torch.arange(n, device=q.device)
    by_query[:, each, last] = by_query[:, each, last].masked_fill(future, -torch.inf)
    weights = by_query.flatten(2).softmax(dim=-1).view(Hq * n * m, C).to(v.dtype)
    parts = v.new_zeros(Hq * n * m, v.shape[-1])
    for u, at in groups:
        parts[at] = weights[at] @ v[u]
    return parts.view(Hq, n, m, -1).sum(dim=2)


def _groups(unit: Tensor) -> list[tuple[int, Tensor]]:
    """Each unit that is named in ``unit`` [E], and where."""
    order = unit.argsort(stable=True)
    names, counts = torch.unique_consecutive(unit[order], return_counts=True)
    return [(u, at) for u, at in zip(names.tolist(), torch.split(order, counts.tolist()), strict=True) if u >= 0]
