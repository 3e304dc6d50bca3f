"""DPE: give each group of rotary pairs its own compressed positions, and only in the pairs that a head relies on.

Paper: Lu et al., 2025, Effective Length Extrapolation via Dimension-Wise Positional Embeddings Manipulation, arXiv 2504.18857.
Reference code read: LuLuLuyi/DPE.

Idea: rotary pairs differ in how far they can be trusted. Cut them into ``groups``; probe each group's best compression s with
needles at the target length while all others hold twice the nominal one. Beyond a local window w a compressed pair sees key j at
⌊j / s⌋ and query i at ⌊i / s⌋ + w − ⌊w / s⌋. Only the share ``key_share`` of pairs with the greatest query norm × key norm is
compressed, layer by layer and head by head; the others, and all pairs within w, keep plain positions.

Departs from the paper: the probe compares the answer's mean loss, not its accuracy, which few needles only resolve coarsely. The
needles are stretches of the calibration text whose first half is repeated at its end and whose second half is the answer, so no
language is assumed; or, with ``answer_tokens``, the caller's text is made of target-length pieces that end with such an answer.

Shapes and units: scales (groups,), fastest group first; key pairs (layer, query head, F); positions in tokens.

Cost: ``prepare`` runs 7 forwards × groups × samples, resumable after each. Later two sets of logits over the prompt (2 × attention);
keys are rotated again at each forward, near for H heads and far for Hq, O(Hq · L · D).

Errors: ConfigError for options out of range; CapabilityError without prepared or given scales; SourceError for too short a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baywindow.errors import CapabilityError, ConfigError, SourceError
from baywindow.registry import technique
from baywindow.window.base import Calibrated, Calibration, Cost, LayerInfo, ModelInfo, Shape, heads_of
from baywindow.window.positions._rope import check_at_least, check_factor, keep_all_cost
from baywindow.window.positions.base import Asked, Branch, Position

MULTIPLES = (1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16)  # of the common scale, tried for each group
NEEDLES = 4


@technique(
    summary="Compress positions pair group by pair group, in the pairs each head relies on",
    paper="arXiv:2504.18857",
    year=2025,
    needs=("weights", "kv"),
    claim="At 4 times the window, probed scales retrieve more needles than one shared Self-Extend scale with the same local window.",
    departures=(
        "the probe compares the loss of the needles' answers, not their accuracy: few needles resolve accuracy only coarsely",
        "needles are stretches of the calibration text to be continued: no language or tokenizer is assumed",
    ),
)
class DPE(Calibrated, Position):
    factor: float = 16.0  # target length / trained length; the probe's common scale is twice this
    window_tokens: int | None = None  # w; None: an eighth of the trained window, the paper's 1,024 of Llama-3's 8,192
    groups: int = 8
    key_share: float = 0.75  # of pairs to be compressed, the paper's 48 of 64
    samples: int = 4
    needle_tokens: int = 16  # of each needle; its second half is the answer
    answer_tokens: int = 0  # above 0: the text's pieces of target length end with an answer of so many tokens
    scales: tuple[int, ...] | None = None  # given outright; None: what `prepare` found

    def __post_init__(self) -> None:
        check_factor("factor", self.factor)
        check_at_least("window_tokens", self.window_tokens, 1)
        check_at_least("groups", self.groups, 1)
        check_at_least("samples", self.samples, 1)
        check_at_least("needle_tokens", self.needle_tokens, 2)
        check_at_least("answer_tokens", self.answer_tokens, 0)
        if not 0 < self.key_share <= 1:
            raise ConfigError.bad_value("key_share", self.key_share, "above 0 and at most 1")
        if self.scales is not None and (len(self.scales) != self.groups or min(self.scales) < 1):
            raise ConfigError.bad_value("scales", self.scales, f"{self.groups} whole numbers of at least 1, one a group")

    def ready(self, info: ModelInfo) -> bool:
        return self.scales is not None or super().ready(info)

    def window(self, trained_tokens: int) -> int:
        """w in tokens for a model. Raises ConfigError if it is not below the trained window."""
        chosen = max(1, trained_tokens // 8) if self.window_tokens is None else self.window_tokens
        if chosen >= trained_tokens:
            raise ConfigError.bad_value("window_tokens", chosen, f"below the trained window of {trained_tokens} tokens")
        return chosen

    def pair_scales(self, asked: Asked) -> Tensor:
        """The scale of each pair for each query head of this layer, (Hq, F), int64; 1 where a pair is not compressed."""
        arrays = asked.info.arrays.get("dpe", {})
        scales = self.scales if self.scales is not None else tuple(int(s) for s in arrays.get("scales", ()))
        if not scales:
            raise CapabilityError("dpe has no scales for this model", hint=f"bay prepare 'dpe(factor={self.factor:g})' --model …")
        pairs, heads = len(asked.inv_freq), asked.layer.q_heads
        by_pair = torch.tensor(scales)[group_of(pairs, self.groups)].expand(heads, pairs)
        if "norms" in arrays:
            norms = torch.tensor(arrays["norms"][asked.layer.index])
            by_pair = torch.where(key_pairs(norms, self.key_share), by_pair, 1)
        return by_pair.to(asked.q_pos.device)

    def reach(self, trained_tokens: int) -> int:
        return round(self.factor * trained_tokens)

    def branches(self, asked: Asked) -> list[Branch]:
        window = self.window(asked.info.trained_tokens)
        near = Branch(q_at=asked.q_pos, k_at=asked.k_pos)
        if asked.longest <= window:
            return [near]
        by_pair = self.pair_scales(asked)
        k_pos = heads_of(asked.k_pos, asked.layer.kv_heads).repeat_interleave(asked.layer.group, dim=1)
        q_far, k_far = compressed(asked.q_pos[:, None], k_pos, by_pair, window)
        return [
            Branch(q_at=near.q_at, k_at=near.k_at, pairs=lambda q, k: q - k < window),
            Branch(q_at=q_far, k_at=k_far, pairs=lambda q, k: q - k >= window),
        ]

    def cost(self, shape: Shape) -> Cost:
        return keep_all_cost(shape, rotations=(shape.kv_heads, shape.q_heads), extra_attention=1)

    def prepare(self, calibration: Calibration) -> dict[str, NDArray[np.float32]]:
        texts = list(self._texts(calibration))
        done = dict(calibration.load_checkpoint())
        common = max(1, round(2 * self.factor))
        if "losses" not in done:
            done = {"losses": np.full((self.groups, len(MULTIPLES)), np.nan, dtype=np.float32)}
        for group, column in np.argwhere(np.isnan(done["losses"])):
            scales = [common] * self.groups
            scales[group] = candidate(common, MULTIPLES[column])
            trial = replace(self, scales=tuple(scales))
            done["losses"][group, column] = sum(calibration.score_with(trial, t, tail) for t, tail in texts) / len(texts)
            calibration.save_checkpoint(done)
        # Not a number would win argmin: a scheme whose loss overflows is the worst there is.
        best = np.argmin(np.nan_to_num(done["losses"], nan=np.inf), axis=1)
        scales_found = np.array([candidate(common, MULTIPLES[c]) for c in best], dtype=np.float32)
        return {"scales": scales_found, "norms": pair_norms(calibration, [t for t, _ in texts]), "losses": done["losses"]}

    def _texts(self, calibration: Calibration) -> Iterator[tuple[Tensor, int]]:
        """Up to ``samples`` pieces of the target length, each [1, n], with the number of answer tokens at its end."""
        length, held = round(self.factor * calibration.info.trained_tokens), calibration.ids.shape[1]
        if held < length:
            raise SourceError(f"the calibration text has {held} tokens; one target length is {length}", hint="give more text")
        rng = np.random.default_rng(0)
        for i in range(min(held // length, self.samples)):
            piece = calibration.ids[:, i * length : (i + 1) * length]
            if self.answer_tokens:
                yield piece, self.answer_tokens
            else:
                yield from ((with_needle(piece, int(at), self.needle_tokens), self.needle_tokens // 2) for at in places(rng, length))


def places(rng: np.random.Generator, length: int) -> NDArray[np.float64]:
    """Where `NEEDLES` needles begin: one, at random, in each equal part of the text but the last tenth."""
    parts = np.linspace(0, 0.9 * length, NEEDLES + 1)
    return rng.uniform(parts[:-1], parts[1:]).astype(int)


def with_needle(piece: Tensor, at: int, tokens: int) -> Tensor:
    """The text [1, n] with its last ``tokens`` replaced by the stretch that begins at ``at``: its second half can be known from there."""
    at = min(at, piece.shape[1] - 2 * tokens)
    return torch.cat([piece[:, :-tokens], piece[:, at : at + tokens]], dim=1)


def candidate(common: int, multiple: float) -> int:
    """A whole scale of at least 1."""
    return max(1, round(common * multiple))


def pair_norms(calibration: Calibration, texts: list[Tensor]) -> NDArray[np.float32]:
    """Query-pair norm × key-pair norm, averaged over tokens and texts: (layer, query head, F). Norms do not feel rotation."""
    layers, pairs = calibration.info.layers, len(calibration.inv_freq)
    total = np.zeros((len(layers), max(layer.q_heads for layer in layers), pairs), dtype=np.float32)

    def observe(layer: LayerInfo, queries: Tensor, keys: Tensor) -> None:
        q, k = (norms_of(x, calibration.pair_columns, pairs) for x in (queries, keys))
        product = (q * k.repeat_interleave(layer.group, dim=1)).mean(dim=2)[0]
        total[layer.index, : layer.q_heads] += product.cpu().numpy() / len(texts)

    for ids in texts:
        calibration.forward(ids, observe)
    return total


def norms_of(x: Tensor, columns: Tensor, pairs: int) -> Tensor:
    """Norm of each rotary pair, (…, F) from (…, D): columns that share a frequency make a pair."""
    squares = x[..., : len(columns)].float() ** 2
    out = squares.new_zeros(*squares.shape[:-1], pairs)
    return out.index_add_(-1, columns.to(x.device), squares).sqrt()


def group_of(pairs: int, groups: int) -> Tensor:
    """Which of ``groups`` runs of equal length each pair belongs to, (F,); the last run may be shorter."""
    return torch.arange(pairs) // math.ceil(pairs / groups)


def key_pairs(norms: Tensor, share: float) -> Tensor:
    """True for the pairs with the greatest norms of each head, (Hq, F) → (Hq, F)."""
    count = max(1, round(share * norms.shape[-1]))
    return torch.zeros_like(norms, dtype=torch.bool).scatter(-1, norms.topk(count, dim=-1).indices, True)


def compressed(q_pos: Tensor, k_pos: Tensor, scale: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Far positions by pair: queries (B, Hq, n, F) and keys (B, Hq, L, F) from (B, 1, n), (B, Hq, L) and scales (Hq, F).

    With scale 1 both are plain, so a pair that is not compressed needs no case of its own.
    """
    by = scale[None, :, None, :]
    return q_pos[..., None] // by + (window - window // by), k_pos[..., None] // by
