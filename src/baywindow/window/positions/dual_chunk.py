"""Dual chunk attention with logit scaling: positions start anew in every chunk, far chunks stand at one fixed distance.

Paper: An et al., 2024, Training-Free Long-Context Scaling of Large Language Models, arXiv 2402.17463; with the logit scaling of
Yang et al., 2025, Qwen2.5-1M Technical Report, arXiv 2501.15383, whose length extrapolation is this pair. Reference code read:
HKUNLP/ChunkLlama and vLLM.

Idea: cut the text into chunks of s tokens; keys stand at their place in the chunk. A query meets keys of its own chunk at its place
(true distances), those of the chunk before at its place + s, clipped to c − 1, so that the w = c − s tokens behind a border keep
true distances, and all earlier chunks from c − 1. No relative position exceeds c − 1. The logits of query p are multiplied by
(0.1 ln((p + 1) / L) + 1)² beyond the trained window L.

Departs from the paper: the report scales all queries by the whole prompt's length; here each query by its own position, so that one
pass, chunked prefill and decoding agree (vLLM does the same while decoding). Both released codes clip to c instead of c − 1, and
vLLM multiplies by the root of the report's factor; the papers are followed.

Shapes and units: ``local_tokens`` w in tokens, c the trained window. Up to three branches over true positions, one softmax.

Cost: three sets of logits over the prompt (3 × attention); keys are rotated again at each forward, O(3 · H · L · D).

Errors: ConfigError for a local window not below the chunk.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from baywindow.errors import ConfigError
from baywindow.registry import technique
from baywindow.window.base import UNLIMITED_TOKENS, Cost, Shape
from baywindow.window.positions._rope import check_at_least, keep_all_cost
from baywindow.window.positions.base import Asked, Branch, Position


@technique(
    summary="Positions anew in each chunk, far chunks at one distance; sharper logits",
    paper="arXiv:2402.17463, arXiv:2501.15383",
    year=2024,
    needs=("weights", "kv"),
    claim="Without training, retrieval and perplexity beyond 4 times the trained window stay close to those inside it.",
    departures=(
        "each query's logits are scaled by its own position, not by the prompt's length: chunked prefill and decoding then agree",
        "clipped at c - 1 and scaled by the squared factor, as the papers say and released code does not",
    ),
)
class DualChunk(Position):
    local_tokens: int | None = None  # w; None: 1/32 of the trained window, Qwen2.5-1M's 8,192 of 262,144
    chunk_tokens: int | None = None  # s; None: the trained window less w
    logit_scaling: bool = True

    def __post_init__(self) -> None:
        check_at_least("local_tokens", self.local_tokens, 1)
        check_at_least("chunk_tokens", self.chunk_tokens, 1)

    def sizes(self, trained_tokens: int) -> tuple[int, int]:
        """(s, w) in tokens for a model. Raises ConfigError if they exceed the trained window or w exceeds s."""
        local = max(1, trained_tokens // 32) if self.local_tokens is None else self.local_tokens
        chunk = trained_tokens - local if self.chunk_tokens is None else self.chunk_tokens
        if not 0 < local <= chunk or chunk + local > trained_tokens:
            raise ConfigError.bad_value(
                "local_tokens", local, f"at most chunk_tokens={chunk}, and both together at most the trained window of {trained_tokens}"
            )
        return chunk, local

    def reach(self, trained_tokens: int) -> int:
        return UNLIMITED_TOKENS

    def branches(self, asked: Asked) -> list[Branch]:
        trained = asked.info.trained_tokens
        chunk, local = self.sizes(trained)
        scale = logit_scale(asked.q_pos, trained) if self.logit_scaling and asked.longest > trained else None
        own, before, far = query_positions(asked.q_pos, chunk, local)
        k_at = asked.k_pos % chunk
        if asked.longest <= chunk:
            return [Branch(q_at=own, k_at=k_at, query_scale=scale)]
        made = [
            Branch(q_at=own, k_at=k_at, query_scale=scale, pairs=lambda q, k: q // chunk == k // chunk),
            Branch(q_at=before, k_at=k_at, query_scale=scale, pairs=lambda q, k: q // chunk == k // chunk + 1),
        ]
        if asked.longest > 2 * chunk:
            made.append(Branch(q_at=far, k_at=k_at, query_scale=scale, pairs=lambda q, k: q // chunk > k // chunk + 1))
        return made

    def choosing(self, asked: Asked) -> list[Branch]:
        """Where keys are looked for, distances go on growing beyond c - 1: clipped ones would tear diagonals apart (Qwen2.5-1M, 3.2)."""
        chunk, local = self.sizes(asked.info.trained_tokens)
        on = (0, chunk, chunk + local)
        return [replace(branch, q_at=asked.q_pos % chunk + shift) for branch, shift in zip(self.branches(asked), on, strict=False)]

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape, rotations=(shape.kv_heads,) * 3, extra_attention=2)


def query_positions(q_pos: Tensor, chunk: int, local: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where queries stand for keys of their own chunk, of the one before and of earlier ones; shapes of ``q_pos`` (Eq. 2, 4, 6)."""
    own = q_pos % chunk
    last = chunk + local - 1
    return own, (own + chunk).clamp(max=last), torch.full_like(q_pos, last)


def logit_scale(q_pos: Tensor, trained_tokens: int) -> Tensor:
    """1 / t = (0.1 ln s + 1)² with s = (p + 1) / L, and 1 inside the trained window."""
    ratio = ((q_pos + 1).float() / trained_tokens).clamp(min=1.0)
    return (0.1 * ratio.log() + 1.0) ** 2
