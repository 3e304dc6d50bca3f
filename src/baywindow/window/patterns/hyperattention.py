"""HyperAttention: large weights are found by sorting queries and keys by a hash, the rest is estimated from sampled keys.

Paper: Han and others, 2023, "HyperAttention: Long-context Attention in Near-Linear Time", arXiv 2310.05869; reference code read:
insuhan/hyper-attn.

Idea: ``projections`` hyperplanes hash queries and keys; buckets are ordered so that neighbours differ by one plane. Both are sorted by
bucket, and every block of sorted queries attends exactly to the aligned block of ``block_tokens`` sorted keys. What lies outside the
blocks is estimated from ``sample_tokens`` keys drawn uniformly, those of the own block left out, with ln(keys / sample) added to their
log-sum-exp. Causal attention halves the sequence: each half on its own, again by halving, and this unmasked core for late queries over
early keys. ``least_tokens`` queries or fewer attend exactly.

Departs from the paper: buckets are ordered as it says; the permutation in its code is the inverse one, whose neighbours can differ by
several planes. Its theory samples keys by the norm of their values, its code uniformly; the code is followed. Keys that do not
fill a block are masked, where the code lets zeros into it. The keys held before a piece are one more unmasked core. Pieces of up to
``least_tokens`` are exact, so a long prompt must be fed in larger ones to gain anything.

Shapes and units: tokens; hashes int64 [B, h, n]. The same seed gives the same planes and samples.

Cost: n · (block + sample) pairs for each of the log2(n / least) halvings, and two sorts; the steps of decoding are exact.

Errors: ConfigError for options below 1; RecipeError beside schemes that turn a key more than one way; CapabilityError on a model with
capped logits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baywindow.errors import CapabilityError, ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import Cost, ModelInfo, Shape
from baywindow.window.flash import flash, merge
from baywindow.window.patterns.base import Glance, OwnKernel
from baywindow.window.positions.base import Position


@technique(
    summary="sorts queries and keys by a hash, attends block by block, estimates the rest by samples",
    paper="arXiv:2310.05869",
    year=2023,
    needs=("weights", "kv"),
    claim="The error falls as block and sample grow; perplexity rises with the number of layers that it replaces.",
    departures=(
        "buckets next to each other differ by one plane, as the paper says; the released permutation is the inverse one",
        "keys are sampled uniformly, as the released code does and the theory does not",
        "keys that do not fill a block are masked; the released code lets zeros into it",
        "keys held before a piece of a prompt are one more unmasked core, so prompts can be fed in pieces",
    ),
)
class HyperAttention(OwnKernel):
    block_tokens: int = 256
    sample_tokens: int = 256
    projections: int = 7
    least_tokens: int = 4096
    layers: int | None = None  # only so many of the last layers; None: all
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("block_tokens", "sample_tokens", "projections", "least_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 1")
        if self.layers is not None and self.layers < 0:
            raise ConfigError.bad_value("layers", self.layers, "0 or more")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if scheme := next((o for o in others if isinstance(o, Position) and not o.fixed), None):
            raise RecipeError(
                f"hyperattention and {scheme.card.name} cannot stand in one recipe: keys are hashed and sorted once, "
                "so each must have one angle for all queries",
                hint="choose a scheme that only changes frequencies, e.g. yarn",
            )

    def check_model(self, info: ModelInfo) -> None:
        if any(layer.softcap is not None for layer in info.full_layers):
            raise CapabilityError("hyperattention adds up parts of one softmax, and this model caps its logits", hint="use another pattern")

    def attend(self, glance: Glance) -> Tensor | None:
        if self.layers is not None and glance.layer.index < len(glance.info.layers) - self.layers:
            return None
        if glance.n < self.least_tokens:
            return None
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + glance.layer.index)
        core = Core(self, glance.layer.scaling, draw, glance.q)
        new = slice(glance.offset, None)
        out, norm = core.causal(glance.q, glance.k[:, :, new], glance.v[:, :, new])
        if glance.offset:
            old = slice(0, glance.offset)
            out, _ = merge(out, norm, *core(glance.q, glance.k[:, :, old], glance.v[:, :, old]))
        return out

    def cost(self, shape: Shape) -> Cost:
        n, kept = shape.prompt_tokens, shape.prompt_tokens * shape.token_bytes
        halvings = max(0, math.ceil(math.log2(max(1, n) / self.least_tokens)))
        pairs = n // 2 * min(n, self.block_tokens + self.sample_tokens) * halvings
        hashing = 2 * shape.layers * (shape.q_heads + shape.kv_heads) * n * shape.head_dim * self.projections * halvings
        return Cost(flops=shape.attention_flops(pairs, 1) + hashing, bytes_kept=kept, bytes_read=kept)


class Core:
    """Approximate attention of queries [B, Hq, n, D] over keys [B, H, m, D]; outputs come with their log-sum-exp."""

    def __init__(self, part: HyperAttention, scaling: float, draw: torch.Generator, like: Tensor) -> None:
        self.part, self.scaling, self.draw = part, scaling, draw
        self.planes = torch.randn(like.shape[-1], part.projections, generator=draw).to(like)

    def causal(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """As many queries as keys, each seeing the keys up to its own."""
        n = q.shape[2]
        if n <= self.part.least_tokens:
            return flash(q, *self._for_queries(q, k, v), self.scaling, causal=True)
        half = n // 2
        early = self.causal(q[:, :, :half], k[:, :, :half], v[:, :, :half])
        late = self.causal(q[:, :, half:], k[:, :, half:], v[:, :, half:])
        across = self(q[:, :, half:], k[:, :, :half], v[:, :, :half])
        out, norm = merge(*late, *across)
        return torch.cat([early[0], out], dim=2), torch.cat([early[1], norm], dim=2)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Every query over all keys, unmasked."""
        k, v = self._for_queries(q, k, v)
        n, m = q.shape[2], k.shape[2]
        blocks = m // self.part.block_tokens
        if n < self.part.least_tokens or blocks < 2:
            return flash(q, k, v, self.scaling)
        order = gray_hash(q, self.planes).argsort(dim=2, stable=True)
        sorted_q = _take(q, order)
        places = gray_hash(k, self.planes).argsort(dim=2, stable=True)
        sorted_k, sorted_v = _take(k, places), _take(v, places)
        inside = self._blocks(sorted_q, sorted_k, sorted_v, blocks)
        out, norm = merge(*inside, *self._samples(sorted_q, sorted_k, sorted_v, blocks))
        back = order.argsort(dim=2)
        return _take(out, back), norm.gather(2, back)

    def _blocks(self, q: Tensor, k: Tensor, v: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
        """Aligned blocks of sorted queries and keys."""
        n, m = q.shape[2], k.shape[2]
        rows, width = -(-n // blocks), -(-m // blocks)
        empty = torch.arange(blocks * width, device=q.device).view(blocks, 1, width) >= m
        q, k, v = _blocked(q, blocks, rows), _blocked(k, blocks, width), _blocked(v, blocks, width)
        out, norm = _softmax(q, k, v, self.scaling, empty)
        return out.flatten(2, 3)[:, :, :n], norm.flatten(2, 3)[:, :, :n]

    def _samples(self, q: Tensor, k: Tensor, v: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
        """Keys drawn uniformly with replacement, those of a query's own block hidden, weighted up to all keys."""
        n, m, size = q.shape[2], k.shape[2], self.part.sample_tokens
        drawn = torch.randint(m, (*k.shape[:2], size), generator=self.draw).to(q.device)
        rows, width = -(-n // blocks), -(-m // blocks)
        own = (torch.arange(n, device=q.device)[:, None] // rows) == (drawn // width)[:, :, None, :]  # [B, Hq, n, size]
        out, norm = _softmax(q, _take(k, drawn), _take(v, drawn), self.scaling, own)
        return out, norm + math.log(m / size)

    def _for_queries(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        share = q.shape[1] // k.shape[1]
        return k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)


def gray_hash(x: Tensor, planes: Tensor) -> Tensor:
    """Which sides of the planes [D, r] the vectors lie on, as the place of that sign pattern in a Gray code, where neighbours differ by
    one plane: int64, the shape of ``x`` without its last axis."""
    bits = ((x @ planes) > 0).long()
    place = bits[..., -1]
    code = place
    for i in range(bits.shape[-1] - 2, -1, -1):
        place = place ^ bits[..., i]  # a Gray code's place: every binary digit is the parity of the code's digits from the top to it
        code = 2 * code + place
    return code


def _softmax(q: Tensor, k: Tensor, v: Tensor, scaling: float, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax attention with hidden pairs, and its log-sum-exp (−inf, and an output of 0, where all are hidden)."""
    logits = ((q @ k.transpose(-1, -2)).float() * scaling).masked_fill_(hidden, -torch.inf)
    norm = logits.logsumexp(dim=-1)
    weights = (logits - norm.clamp(min=torch.finfo(norm.dtype).min)[..., None]).exp()
    return weights.to(v.dtype) @ v, norm


def _take(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(2, index[..., None].expand(-1, -1, -1, x.shape[-1]))


def _blocked(x: Tensor, blocks: int, width: int) -> Tensor:
    """[B, h, n, D] as [B, h, blocks, width, D], zeros behind."""
    return torch.unflatten(torch.nn.functional.pad(x, (0, 0, 0, blocks * width - x.shape[2])), 2, (blocks, width))
