"""The door for memory: the object passed as ``past_key_values``. It owns one `Store` a layer and says when policies act.

When does a prompt end? Inside plain ``generate`` nobody says so; the rule is: a forward of two or more tokens is (a piece of) a prompt
and is compressed when it is through, until `close` is called; a forward of one token is a step. The driver says it exactly: it holds
compression back (``hold``) until the last piece, or lets every piece be compressed, and closes the cache afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from baywindow.window.block import tensor_bytes
from baywindow.window.caches.base import Seen
from baywindow.window.engine.store import Store

if TYPE_CHECKING:
    from baywindow.window.engine.runtime import Runtime

Mode = Literal["auto", "hold", "closed", "probe"]


class WindowCache(Cache):  # type: ignore[misc]
    """``question_tokens``: that many tokens at the end of each prompt are kept out of the compression: they neither vote nor go.

    ``mode``: auto (every prompt forward is compressed), hold (nothing is), closed (only policies that act at every step do),
    probe (a look that leaves nothing behind). ``runtime`` is shared, never copied.
    """

    def __init__(self, runtime: Runtime, *, question_tokens: int = 0) -> None:
        croppable = runtime.parts.croppable
        super().__init__(layers=[Store(layer, croppable=croppable) for layer in runtime.info.layers])
        self.runtime = runtime
        self.question_tokens = question_tokens
        self.mode: Mode = "auto"
        self.driven = False  # the driver is feeding: every piece is prompt, whatever its length, and it has said what is the question
        self.ids: list[Tensor] = []  # [B, n] pieces on the CPU, as they came; −1 where padding stood
        self.protect_from: Tensor | None = None  # true position per row from which tokens are the question
        self.row_tokens: Tensor | None = None  # tokens a row has had, [B]
        self.turn_from: Tensor | None = None  # true position per row at which the last prompt began
        self.prompt_slots = 0  # that went in before the prompt was closed
        self.asked_after = False  # a question comes behind a context that was compressed without it
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.pairs = (0, 0)  # computed where a pattern chose, and what attention to everything would have computed there
        self.apart = (0, 0)  # tokens that lookups asked for of those laid apart, and how many of them were fetched
        self.watcher: Callable[[Seen], None] | None = None  # of a probing forward

    def store(self, layer_index: int) -> Store:
        return self.layers[layer_index]  # type: ignore[no-any-return]

    @property
    def stores(self) -> list[Store]:
        return list(self.layers)

    @property
    def batch_size(self) -> int:
        """Rows held, or -1 before the first forward."""
        return self.stores[0].batch_size if self.stores else -1

    def close(self) -> None:
        """The prompt is over: later tokens are kept as they are, unless a policy acts at every step."""
        self.mode = "closed"
        self.prompt_slots = self.get_seq_length()
        for store in self.stores:
            store.forget(self.runtime.parts.prompt_only)

    def nbytes(self) -> int:
        """Bytes of keys, values, positions and policies' state really held, all layers."""
        return tensor_bytes(*(t for store in self.stores for t in store.tensors()))  # what layers share counts once

    def held(self) -> list[Tensor]:
        """Tokens held, by layer: each [B, H]."""
        return [store.held() for store in self.stores]

    def spend(self, part: str, seconds: float) -> None:
        """Add to the seconds of one part of the work."""
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def count_pairs(self, read: int, dense: int) -> None:
        """Pairs of a query and a key that a pattern had computed, of those that attention to everything would compute."""
        self.pairs = (self.pairs[0] + read, self.pairs[1] + dense)

    def count_apart(self, asked: int, fetched: int) -> None:
        """Tokens of all heads that a lookup wants and that lie apart, and those that the lookup before had not brought."""
        self.apart = (self.apart[0] + asked, self.apart[1] + fetched)

    def note(self, remark: str) -> None:
        """Something a person should see in the report, once."""
        if remark not in self.notes:
            self.notes.append(remark)

    def count(self, positions: Tensor) -> None:
        """New tokens at true ``positions`` [B, n] have come in."""
        new = (positions >= 0).sum(dim=1)
        if positions.shape[1] > 1 and not self.driven:
            self.turn_from = torch.zeros_like(new) if self.row_tokens is None else self.row_tokens
        self.row_tokens = new if self.row_tokens is None else self.row_tokens + new
        if self.mode == "auto" and positions.shape[1] > 1 and not self.driven:
            last = positions.amax(dim=1)
            self.protect_from = last - self.question_tokens + 1 if self.question_tokens else None
        if self.mode == "closed" and positions.shape[1] > 1:
            self.asked_after = True

    def absorb(self, forks: Sequence[WindowCache]) -> None:
        """Hold, behind what is held, all that copies of this cache have read since they were made, each at its own positions. Their common
        past is held once; the next token of a row stands behind the farthest of them."""
        first = self.row_tokens if self.row_tokens is not None else torch.zeros(1, dtype=torch.long)
        past, spent = len(self.ids), dict(self.seconds)
        for i, store in enumerate(self.stores):
            store.absorb([fork.store(i) for fork in forks], first)
        for fork in forks:
            assert fork.row_tokens is not None
            self.ids += fork.ids[past:]
            self.row_tokens = fork.row_tokens if self.row_tokens is None else torch.maximum(self.row_tokens, fork.row_tokens)
            for name, seconds in fork.seconds.items():
                self.spend(name, seconds - spent.get(name, 0.0))

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the last ``-tokens_to_remove`` tokens (assisted decoding)."""
        if tokens_to_remove and self.row_tokens is not None and self.is_croppable:
            lost = -tokens_to_remove
            full = next((s for s in self.stores if s.tail is not None), None)
            if full is not None and full.tail is not None:
                self.row_tokens = self.row_tokens - (full.tail.block.positions[..., -lost:] >= 0).sum(dim=-1)
        super().crop(tokens_to_remove)

    def reset(self) -> None:
        super().reset()
        self.ids, self.row_tokens, self.protect_from, self.turn_from, self.mode = [], None, None, None, "auto"

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        self._rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        index = torch.arange(max(self.batch_size, 0)).repeat_interleave(repeats)
        super().batch_repeat_interleave(repeats)
        self._rows(index)

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._rows(indices.nonzero().flatten() if indices.dtype == torch.bool else indices)

    def _rows(self, index: Tensor) -> None:
        if self.row_tokens is not None:
            self.row_tokens = self.row_tokens.index_select(0, index.to(self.row_tokens.device))
        if self.protect_from is not None:
            self.protect_from = self.protect_from.index_select(0, index.to(self.protect_from.device))
        if self.turn_from is not None:
            self.turn_from = self.turn_from.index_select(0, index.to(self.turn_from.device))
        self.ids = [piece.index_select(0, index.cpu()) for piece in self.ids]

    def __deepcopy__(self, memo: dict[int, Any]) -> WindowCache:
        """A copy that can go its own way; the model is not copied."""
        new = WindowCache(self.runtime, question_tokens=self.question_tokens)
        new.layers = [store.__deepcopy__(memo) for store in self.stores]
        new.mode, new.ids, new.notes = self.mode, list(self.ids), list(self.notes)
        new.protect_from, new.row_tokens, new.turn_from = self.protect_from, self.row_tokens, self.turn_from
        new.pairs, new.apart = self.pairs, self.apart
        new.seconds, new.asked_after = dict(self.seconds), self.asked_after
        memo[id(self)] = new
        return new
