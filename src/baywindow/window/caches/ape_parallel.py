"""APE: read every context apart from the others, behind one common prefix, and weigh them together when a question comes.

Paper: Yang and others, 2025, "APE: Faster and Longer Context-Augmented Generation via Adaptive Parallel Encoding", ICLR 2025,
arXiv 2502.05431; its released code as the project's notes describe it.

Idea: contexts that do not see each other can be read, and kept, one by one; each begins at the position behind the common prefix, so they
overlap and none is far from the question. But then attention spreads over them all. So a later token's logits to the contexts are
divided by ``temperature`` T, which sharpens them, and the log-sum-exp of these is multiplied by ``scale`` · T before contexts and
everything else share one softmax.

Departs from the paper: contexts are read one after the other, not as a batch padded to the longest, which is the same and wastes nothing.
A text given as one is cut every ``context_tokens``. It acts where a context is fed on its own (`Prefilled`, ``w.prefill``); a
prompt that holds question and contexts in one forward is read in order. Layers with a sliding window are read apart but not re-weighed.

Shapes and units: positions in tokens; state: where contexts begin and end, int64 [B] each. Budgets of positions, not of tokens.

Cost: reading n tokens in contexts of m costs n · m and not n² of attention; each later token adds a log-sum-exp over the contexts.

Errors: ConfigError for options out of range; RecipeError beside what drops, hides or looks up tokens, or numbers them anew.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from baywindow.errors import ConfigError, RecipeError
from baywindow.registry import Technique, technique
from baywindow.window.base import Cost, Shape, State
from baywindow.window.caches.base import Codec, Feed, Mover, Piece, Prefill, Quantiser
from baywindow.window.positions.base import Position


@technique(
    summary="read contexts apart behind a common prefix, and weigh them together later",
    paper="arXiv:2502.05431",
    year=2025,
    needs=("weights", "kv"),
    claim="Contexts read apart answer nearly as well as in order once a temperature and a scale correct how attention spreads.",
    departures=(
        "contexts are read one after the other, not as one padded batch: the same numbers, nothing wasted",
        "a text given as one is cut every context_tokens; a caller who knows the parts gives their starts",
        "a prompt that comes in one forward with its question is read in order: nothing says where its contexts are",
        "layers with a sliding window are not re-weighed: caches leave them as they are",
    ),
    slot="feed",
)
class APEParallel(Prefill):
    temperature: float = 0.9  # T of the paper
    scale: float = 0.9  # S of the paper
    prefix_tokens: int = 4  # the common prefix where the caller names none
    context_tokens: int = 1024  # a longer part is cut

    def __post_init__(self) -> None:
        for name in ("temperature", "scale"):
            if not 0 < getattr(self, name) <= 2:
                raise ConfigError.bad_value(name, getattr(self, name), "above 0 and at most 2")
        for name, least in (("prefix_tokens", 0), ("context_tokens", 1)):
            if getattr(self, name) < least:
                raise ConfigError.bad_value(name, getattr(self, name), f"at least {least}")

    def check_with(self, others: tuple[Technique, ...]) -> None:
        if other := next((o for o in others if not isinstance(o, Position | Quantiser | Mover | Codec)), None):
            raise RecipeError(
                f"{self.card.name} and {other.card.name} cannot stand in one recipe: with {self.card.name} tokens of several contexts "
                "share their positions, and nothing has looked at all of them when one would choose among them",
                hint="pack or move them instead, e.g. kivi or offload",
            )

    def feed(self, feed: Feed) -> None:
        whole = feed.whole
        first, *bounds = self.bounds(whole.ids.shape[1], feed.starts)
        if first:
            feed.step(_cut(whole, 0, first))
        begin = whole.positions[:, 0] + whole.mask[:, :first].sum(dim=1)  # positions count what is no padding
        pieces = [_at(_cut(whole, a, b), begin) for a, b in zip([first, *bounds], bounds, strict=False)]
        if not pieces:
            return
        feed.apart(pieces)
        end = begin + torch.stack([piece.mask.sum(dim=1) for piece in pieces]).amax(dim=0)
        feed.keep({"begin": begin, "end": end})

    def bounds(self, tokens: int, starts: tuple[int, ...]) -> list[int]:
        """Columns: where the first context begins, then where each ends. Only one context needs no reading apart, and is cut nevertheless
        if it is long."""
        if starts and (list(starts) != sorted(set(starts)) or starts[0] < 0 or starts[-1] >= tokens):
            raise ConfigError.bad_value("starts", starts, f"ascending columns below {tokens}")
        edges = [*(starts or (min(self.prefix_tokens, tokens),)), tokens]
        cut = [edges[0]]
        for a, b in pairwise(edges):
            cut += [*range(a + self.context_tokens, b, self.context_tokens), *([b] if b > a else [])]
        return cut

    def weighs(self, state: State) -> bool:
        return "end" in state and (self.temperature, self.scale) != (1.0, 1.0)

    def weigh(self, logits: Tensor, k_pos: Tensor, state: State) -> Tensor:
        """One softmax over these is the paper's two: weights in proportion to exp(l / T) among contexts, whose mass is exp(S · T · L), with
        L the log-sum-exp of l / T."""
        begin, end = (state[name].to(k_pos.device)[:, None, None] for name in ("begin", "end"))
        context = (k_pos >= begin) & (k_pos < end)
        if context.shape[1] not in (1, logits.shape[1]):
            context = context.repeat_interleave(logits.shape[1] // context.shape[1], dim=1)
        context = context[:, :, None]
        sharp = logits / self.temperature
        mass = sharp.masked_fill(~context, -torch.inf).logsumexp(dim=-1, keepdim=True)
        shift = (mass * (self.scale * self.temperature - 1)).nan_to_num(0.0, posinf=0.0, neginf=0.0)  # a row without contexts
        return torch.where(context, sharp + shift, logits)

    def cost(self, shape: Shape) -> Cost:
        kept = shape.prompt_tokens * shape.token_bytes
        later = 4 * shape.layers * shape.q_heads * shape.prompt_tokens * shape.generated_tokens  # divide, exponent, sum, shift
        return Cost(flops=later, bytes_kept=kept, bytes_read=kept)


def _cut(piece: Piece, a: int, b: int) -> Piece:
    return Piece(ids=piece.ids[:, a:b], mask=piece.mask[:, a:b], positions=piece.positions[:, a:b])


def _at(piece: Piece, begin: Tensor) -> Piece:
    """The piece with its first token of every row at ``begin`` [B]."""
    positions = begin[:, None] + (piece.mask.long().cumsum(dim=1) - 1).clamp(min=0)
    return Piece(ids=piece.ids, mask=piece.mask, positions=positions)
