"""Many short texts at once: their log-probabilities, or the state that the model ends each of them in.

One forward reads a batch of texts of like length. What all texts of a batch begin with is read once and its cache shared. Logits are
made only where a continuation stands: with a vocabulary of 150,000 they are a third of the work of a small model.

Shapes: ids are (row, token), padded on the left, so that the ends of all rows stand in one column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baywindow.models.transformers.loop import forward, left_padded, new_cache

_LOGIT_VALUES = 1 << 26  # float32 logits at once: 256 MB
_BATCH_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}
_LEAST_FILL = 0.75  # the shortest row of a batch has at least this share of the longest
_LEAST_SHARED = 8  # tokens; a shorter common beginning is read with each row


@dataclass(frozen=True)
class Row:
    """Token ids, of which those from ``first`` on (at least 1) are to be scored."""

    ids: list[int]
    first: int


def scores_of(model: Any, rows: Sequence[Row], lock: AbstractContextManager[Any]) -> list[NDArray[np.float32]]:
    """For every row the natural log-probabilities of its scored tokens, shape (token,)."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    found: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(rows)
    asked = [i for i, row in enumerate(rows) if row.first < len(row.ids)]
    for group in _groups(rows, asked, _BATCH_TOKENS.get(model.device.type, 1024), _LOGIT_VALUES // vocabulary):
        for i, scores in zip(group, _batch(model, [rows[i] for i in group], lock), strict=True):
            found[i] = scores
    return found


def last_states(model: Any, rows: Sequence[list[int]], lock: AbstractContextManager[Any]) -> NDArray[np.float32]:
    """The state behind the last block and the final norm at each row's last token, shape (row, dim)."""
    found: list[NDArray[np.float32] | None] = [None] * len(rows)
    whole = [Row(ids, len(ids)) for ids in rows]
    for group in _groups(whole, range(len(rows)), _BATCH_TOKENS.get(model.device.type, 1024), 1 << 30):
        ids, mask = left_padded([rows[i] for i in group], 0, model.device)
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
        with lock, torch.inference_mode():
            out = model.get_decoder()(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        states = out.last_hidden_state[:, -1].float().cpu().numpy()
        for i, state in zip(group, states, strict=True):
            found[i] = state
    return np.stack([state for state in found if state is not None]) if rows else np.zeros((0, 0), dtype=np.float32)


def _batch(model: Any, rows: Sequence[Row], lock: AbstractContextManager[Any]) -> Iterator[NDArray[np.float32]]:
    """A row's last token is only predicted, never fed."""
    cache = new_cache(model)
    shared = _shared(rows)
    if shared:
        start = torch.tensor([rows[0].ids[:shared]], device=model.device)
        with lock:
            forward(model, start, torch.ones_like(start), cache)
        cache.batch_repeat_interleave(len(rows))
    ids, mask = left_padded([row.ids[shared:-1] for row in rows], 0, model.device)
    mask = torch.cat([mask.new_ones(len(rows), shared), mask], dim=1)
    scored = [len(row.ids) - row.first for row in rows]
    with lock:
        logits = forward(model, ids, mask, cache, max(scored))
    for row, count, values in zip(rows, scored, logits, strict=True):
        yield _of_targets(values[-count:], row.ids[row.first :])


def _shared(rows: Sequence[Row]) -> int:
    """Tokens that all rows begin with, without those whose logits are wanted."""
    if len(rows) < 2:
        return 0
    same = takewhile(lambda column: len(set(column)) == 1, zip(*(row.ids[: row.first - 1] for row in rows), strict=False))
    shared = sum(1 for _ in same)
    return shared if shared >= _LEAST_SHARED else 0


def _groups(rows: Sequence[Row], asked: Sequence[int], most_tokens: int, most_logits: int) -> Iterator[list[int]]:
    """Which of the rows ``asked`` for are read together, longest first."""
    group: list[int] = []
    logits = 0
    for i in sorted(asked, key=lambda i: (-len(rows[i].ids), i)):
        size, scored = len(rows[i].ids), len(rows[i].ids) - rows[i].first
        longest = len(rows[group[0]].ids) if group else size
        wide = max(logits, scored)
        full = (len(group) + 1) * longest > most_tokens or (len(group) + 1) * wide > most_logits or size < _LEAST_FILL * longest
        if group and full:
            yield group
            group, wide = [], scored
        group.append(i)
        logits = wide
    if group:
        yield group


@torch.inference_mode()
def _of_targets(logits: Tensor, targets: list[int]) -> NDArray[np.float32]:
    logits = logits.float()
    chosen = logits.gather(-1, torch.tensor(targets, device=logits.device)[:, None])[:, 0]
    found: NDArray[np.float32] = (chosen - logits.logsumexp(dim=-1)).cpu().numpy()
    return found
