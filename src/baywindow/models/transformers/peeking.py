"""The last token's raw attention scores in a few layers, without running the layers above them.

Queries and keys are seen where every model of transformers hands them over, rotated, to its attention function; a registered function
of ours notes the products and then attends as usual. The forward ends when the deepest layer asked for has been seen.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from baywindow.errors import CapabilityError

NAME = "baywindow_peek"
_here = threading.local()


class _Seen(Exception):  # noqa: N818 - an event: nothing above this layer needs to run
    """The deepest layer asked for has been seen."""


def last_scores(model: Any, ids: Sequence[int], numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """For each block the last token's query times every key, not scaled and without softmax: (head, key). ``numbers`` count from 0."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
    before = model.config._attn_implementation
    found: dict[int, NDArray[np.float32]] = {}
    _here.wanted, _here.found = frozenset(numbers), found
    model.set_attn_implementation(NAME)
    try:
        with torch.inference_mode():
            whole = torch.tensor([list(ids)], device=model.device)
            model.get_decoder()(input_ids=whole, attention_mask=torch.ones_like(whole), use_cache=False)
    except _Seen:
        pass
    finally:
        model.set_attn_implementation(before)
    if missing := set(numbers) - set(found):
        raise CapabilityError(f"block {min(missing)} of this model has no attention of the usual kind", hint="choose another layer")
    return found


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any) -> Any:
    """Shapes are (row, head, token, dim); keys and values have fewer heads where several queries share one."""
    number = module.layer_idx
    if number in _here.wanted:
        repeated = key[0].repeat_interleave(query.shape[1] // key.shape[1], dim=0)
        _here.found[number] = torch.einsum("hd,hkd->hk", query[0, :, -1].float(), repeated.float()).cpu().numpy()
        if number == max(_here.wanted):
            raise _Seen
    return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
