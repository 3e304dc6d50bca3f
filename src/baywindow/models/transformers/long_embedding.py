"""An embedder that reads more tokens than it was trained for, without training.

Absolute positions (BERT and its kin, window L): *group* gives several neighbours one position, p // ceil(n / L); *recurrent* counts
again from 0, p mod L; *interpolate* enlarges the table, new rows between the old ones, so that position p stands at p / factor.
Rotary positions: *ntk* lowers the frequencies, the slow ones most; *selfextend* keeps distances below `near` exact and groups the
rest, in both directions. Any model: *windows* embeds stretches of its own window and takes the mean.

The wrapped embedder stays as it is: what has to be changed is changed on a copy of its network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baywindow.errors import CapabilityError
from baywindow.models.base import Embedder
from baywindow.models.embedders import SentenceEmbedder, unit
from baywindow.models.transformers import far_attention

Method = Literal["windows", "group", "recurrent", "interpolate", "ntk", "selfextend"]
ABSOLUTE = frozenset({"group", "recurrent", "interpolate"})
_BATCH = 4


class LongEmbedder(Embedder):
    """``factor`` times the window of ``inner``; texts within the window come out as ``inner`` embeds them (but for *ntk*).

    CapabilityError for a method that the network's kind of positions does not have.
    """

    def __init__(self, inner: SentenceEmbedder, method: Method, factor: int) -> None:
        self.name = f"{inner.name}+{method}x{factor}"
        self.dim, self.window = inner.dim, inner.max_tokens
        self.max_tokens = factor * inner.max_tokens
        self._inner, self._method, self._factor = inner, method, factor
        modules = inner.modules()
        self._tokenizer, self._after = modules.tokenizer, modules.after
        self._network = modules.network if method == "windows" else copy.deepcopy(modules.network).eval()
        self._prepare()

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage") -> NDArray[np.float32]:
        found = np.zeros((len(texts), self.dim), dtype=np.float32)
        ids = [self._ids(text) for text in texts]
        short = [i for i, row in enumerate(ids) if len(row) <= self.window and self._method != "ntk"]
        found[short] = self._inner.embed([texts[i] for i in short], kind)
        for i in sorted(set(range(len(texts))) - set(short)):
            found[i] = self._windows(texts[i], kind) if self._method == "windows" else self._encoded(ids[i])
        return unit(found)

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids)

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, truncation=True, max_length=self.max_tokens, padding=False, verbose=False).input_ids
        return found

    def _windows(self, text: str, kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        spans = self._tokenizer(text, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False).offset_mapping
        size = self.window - 2
        count = min(len(spans), self.max_tokens - 2)
        starts = [*range(0, count - size, size), max(0, count - size)]  # the last one reaches back, so that it is as long as the others
        parts = [text[spans[a][0] : spans[min(a + size, count) - 1][1]] for a in starts]
        mean: NDArray[np.float32] = self._inner.embed(parts, kind).mean(axis=0)
        return mean

    @torch.inference_mode()
    def _encoded(self, ids: list[int]) -> NDArray[np.float32]:
        device = next(self._network.parameters()).device
        row = torch.tensor([ids], device=device)
        mask = torch.ones_like(row)
        extra: dict[str, Tensor] = {}
        if self._method in ABSOLUTE:
            extra["position_ids"] = self._positions(len(ids)).to(device)[None]
            if hasattr(self._network.embeddings, "token_type_embeddings"):  # its default is as long as the old table
                extra["token_type_ids"] = torch.zeros_like(row)
        with far_attention.in_place(self._network, self._far) if self._far else _nothing():
            states = self._network(input_ids=row, attention_mask=mask, **extra).last_hidden_state
        features: dict[str, Any] = {"token_embeddings": states, "attention_mask": mask}
        for module in self._after:
            features = module(features)
        vector: NDArray[np.float32] = features["sentence_embedding"][0].float().cpu().numpy()
        return vector

    def _positions(self, length: int) -> Tensor:
        places = torch.arange(length)
        if self._method == "group":
            places = places // math.ceil(length / self.window)
        elif self._method == "recurrent":
            places = places % self.window
        return places + self._offset

    def _prepare(self) -> None:
        self._offset = 0
        self._far: far_attention.Far | None = None
        if self._method in ABSOLUTE:
            owner: Any = getattr(self._network, "embeddings", None)
            table = getattr(owner, "position_embeddings", None)
            if not isinstance(table, nn.Embedding):
                raise CapabilityError(f"{self._inner.name} has no table of positions", hint="use ntk, selfextend or windows")
            self._offset = 0 if table.padding_idx is None else table.padding_idx + 1
            if self._method == "interpolate":
                owner.position_embeddings = enlarged(table, self._offset, self._factor)
        elif self._method in ("ntk", "selfextend"):
            rotary = [m for m in self._network.modules() if isinstance(getattr(m, "inv_freq", None), Tensor)]
            if not rotary:
                raise CapabilityError(f"{self._inner.name} has no rotary positions", hint="use group, interpolate or windows")
            if self._method == "ntk":
                for module in rotary:
                    module.inv_freq = slower(module.inv_freq, self._factor)
            else:
                near = self.window // 2
                # The farthest distance, near + (n - near) / group, stays within the window.
                group = math.ceil((self.max_tokens - near) / max(1, self.window - near))
                self._far = far_attention.Far(rotary[0].inv_freq.clone(), near, group)


def enlarged(table: nn.Embedding, offset: int, factor: int) -> nn.Embedding:
    """The table with ``factor`` rows for each position; row i · factor is the old row i, those between lie on the line to the next."""
    old = table.weight.detach()
    rows = old[offset:]
    at = torch.arange(factor * len(rows), device=old.device, dtype=torch.float64) / factor
    low = at.floor().long()
    high = (low + 1).clamp(max=len(rows) - 1)
    part = (at - low).to(old.dtype)[:, None]
    made: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        torch.cat([old[:offset], rows[low] * (1 - part) + rows[high] * part])
    )
    return made


def slower(inv_freq: Tensor, factor: float) -> Tensor:
    """Frequencies of the base times factor^(d / (d - 2)): the fastest stays, the slowest is divided by the factor."""
    half = inv_freq.shape[-1]
    steps = torch.arange(half, device=inv_freq.device, dtype=inv_freq.dtype)
    return inv_freq * factor ** (-steps / max(1, half - 1))


class _nothing:  # noqa: N801 - a context manager in the manner of contextlib
    def __enter__(self) -> None: ...

    def __exit__(self, *what: object) -> None: ...
