"""Which prompts go together: sorted by length, little padding for what is written, and no more at once than memory holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil
import torch

_MOST_ROWS = {"cpu": 16, "mps": 16, "cuda": 64}
_SHARE_OF_FREE = 0.25  # of free memory, for keys and values; activations and the rest of the machine need theirs
# Prompts go together if the shorter one has this share of the longer one, or lacks no more tokens than will be written: a step of decoding
# costs much more than reading a token, and in a batch it is taken once for all.
_LEAST_FILL = 0.7


def batches(lengths: Sequence[int], new_tokens: int, model: Any) -> list[list[int]]:
    """Groups of indices, longest prompts first. Every index occurs once."""
    room = int(free_bytes(model.device) * _SHARE_OF_FREE)
    each = kv_bytes_per_token(model)
    most = _MOST_ROWS.get(model.device.type, 8)
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups:
            longest = lengths[groups[-1][0]]
            fits = (len(groups[-1]) + 1) * (longest + new_tokens) * each <= room
            alike = lengths[index] >= min(_LEAST_FILL * longest, longest - new_tokens)
            if fits and alike and len(groups[-1]) < most:
                groups[-1].append(index)
                continue
        groups.append([index])
    return groups


def room(rows: int, columns: int, reach: int, model: Any) -> int:
    """How many more rows may join so many that hold ``columns`` tokens each, padding and all, if none will be longer than ``reach``."""
    tokens = free_bytes(model.device) * _SHARE_OF_FREE / kv_bytes_per_token(model) - rows * (reach - columns)
    return max(0, min(_MOST_ROWS.get(model.device.type, 8) - rows, int(tokens // reach)))


def kv_bytes_per_token(model: Any) -> int:
    """Bytes of keys and values that one token of one row takes, all layers (sliding layers counted in full: an upper bound)."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * dim * model.dtype.itemsize)


def free_bytes(device: torch.device) -> int:
    """Free memory of the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
