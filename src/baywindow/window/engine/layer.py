"""One layer of one forward, from un-rotated queries to the output: rotate, store, read, mask, attend, settle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from baywindow.window.base import LayerInfo
from baywindow.window.block import LOG_TOKENS, Block
from baywindow.window.caches.base import Phase
from baywindow.window.engine.angles import Angles, scaled
from baywindow.window.engine.attending import Attending, by_query_head, folded, pair_positions
from baywindow.window.engine.masks import MaskSpec, additive
from baywindow.window.engine.places import sequence_of
from baywindow.window.engine.reading import read
from baywindow.window.engine.recalling import recalled
from baywindow.window.engine.settling import settle
from baywindow.window.engine.store import Store

if TYPE_CHECKING:
    from baywindow.window.engine.runtime import Runtime


class LayerRun:
    """Made for one call of the attention function. ``spent`` counts the seconds that went into policies."""

    def __init__(
        self, runtime: Runtime, layer: LayerInfo, module: nn.Module, spec: MaskSpec, store: Store | None, kwargs: dict[str, Any]
    ) -> None:
        self.runtime, self.layer, self.module, self.spec, self.store, self.kwargs = runtime, layer, module, spec, store, kwargs
        self.parts = runtime.parts
        self.angles = Angles(runtime, layer, store)
        self.turner, self.position, self.pattern, self.raw = (
            self.angles.turner,
            self.angles.position,
            self.angles.pattern,
            self.angles.raw,
        )
        self.spent = 0.0
        self.shares_mask, self.picked_holes = True, False  # what recall changes: each lookup sees keys of its own

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.store is not None and self.parts.mover is not None:
            self._prefetch_next()
        q_pos = self.runtime.forward.positions(self.spec, query.shape[0])
        self.runtime.forward.count(q_pos)
        if self.raw:
            q, k = query, key
        else:
            q, k = self.angles.new(query, key, q_pos)
        block = self._stored(k, value, q_pos)
        out = recalled(self, q, query, q_pos, block)
        attending = None
        if out is None or self.parts.watching:
            attending = self.attending(q, block, q_pos, query)
            out = self.attend(attending) if out is None else out
        if self.store is not None:
            settle(self, self.store, attending, query, q_pos)
        return out

    def _prefetch_next(self) -> None:
        cache, layers = self.runtime.forward.cache, self.runtime.info.layers
        if cache is not None:
            for segment in cache.store((self.layer.index + 1) % len(layers)).segments:
                segment.prefetch()

    # -- what is held and who sees it ---------------------------------------------------------------------------------------

    def _stored(self, k: Tensor, value: Tensor, q_pos: Tensor) -> Block:
        if self.store is None:
            return Block(keys=k, values=value, positions=q_pos)
        memo = self.runtime.forward.memo
        if "starts" not in memo:
            memo["starts"] = sequence_of(q_pos)
        self.store.append(k, value, q_pos, memo["starts"], padded=self.spec.new_padding is not None)
        return self.store.view()

    def attending(self, q: Tensor, block: Block, q_pos: Tensor, query: Tensor) -> Attending:
        branches, asked = None, None
        if self.raw:
            branches, asked = self.angles.branches(self.angles.asked(query, block.keys, q_pos, block.positions))
        return Attending(
            layer=self.layer,
            q=q,
            block=block,
            allowed=self.allowed_rows(query, q_pos, block),
            branches=branches,
            asked=asked,
            turner=self.turner,
            query=query,
            q_pos=q_pos,
            weigh=self._weigh(block),
        )

    def _weigh(self, block: Block) -> Callable[[Tensor], Tensor] | None:
        """How the recipe's prefill wants what it fed to be weighed, if it does."""
        part, store = self.parts.prefill, self.store
        if part is None or store is None or self.layer.is_sliding or not part.weighs(state := store.states.get(part.card.name, {})):
            return None
        k_pos = block.positions if block.positions.dim() == 3 else block.positions[:, None]
        return lambda logits: part.weigh(logits, k_pos, state)

    def allowed_rows(self, query: Tensor, q_pos: Tensor, block: Block) -> Any:
        """A function of a row range: the model's mask on true positions, narrowed by the pattern."""
        acting = self.pattern if self.hides_pairs else None
        asked = self.angles.asked(query, block.keys, q_pos, block.positions) if acting else None

        def allowed(start: int, stop: int) -> Tensor:
            rows = q_pos[:, start:stop]
            mask = self.spec.allowed(rows, block.positions)
            if acting is not None and asked is not None:
                q, k = pair_positions(rows, block.positions)
                mask = by_query_head(mask, self.layer) & (by_query_head(acting.visible(asked, q, k), self.layer) | (q < 0))
            return mask

        return allowed

    @property
    def hides_pairs(self) -> bool:
        return self.pattern is not None and self.pattern.hides_pairs

    @property
    def has_holes(self) -> bool:
        """Whether some slot of queries or keys may hold nothing."""
        return self.spec.new_padding is not None or self.picked_holes or (self.store is not None and self.store.holes)

    def _needs_mask(self, block: Block, n: int) -> bool:
        """Whether some pair is hidden, by stock's own rule for when a kernel can do without a mask, so that the same kernel runs."""
        if self.runtime.base == "eager" or self.hides_pairs:
            return True
        if self.has_holes or not self.spec.may_skip:
            return True
        if self.spec.local_size is not None and block.length >= self.spec.local_size:
            return True
        return n > 1 and block.length != n

    def _mask(self, attending: Attending, n: int) -> Tensor | None:
        """[B, 1 | H | Hq, n, L] as a kernel takes it, or None."""
        block, stands_for = attending.block, attending.block.tags.get(LOG_TOKENS)
        if not self._needs_mask(block, n):
            if stands_for is None:
                return None
            if n == 1:  # nothing is hidden, so the logarithms are the whole mask
                return stands_for.unsqueeze(2)
        shared = (self.store is None or self.store.pristine) and not self.hides_pairs and self.shares_mask
        key = ("mask", id(self.spec), block.length)
        memo = self.runtime.forward.memo
        if shared and key in memo:
            return memo[key]  # type: ignore[no-any-return]
        mask = by_query_head(attending.allowed(0, n), self.layer)
        if self.runtime.base == "eager" or stands_for is not None:
            mask = additive(mask, attending.q.dtype)
        if stands_for is not None:
            mask = mask + by_query_head(stands_for.unsqueeze(2), self.layer).to(mask.dtype)
        if shared:
            memo[key] = mask
        return mask

    # -- kernels ------------------------------------------------------------------------------------------------------------

    def attend(self, attending: Attending) -> Tensor:
        """The output [B, n, Hq, Dv]: of what the pattern reads, or of everything that is held."""
        found = read(self, attending)
        return self._dense(attending) if found is None else found

    def _dense(self, attending: Attending) -> Tensor:
        n = attending.q.shape[2]
        if attending.weigh is not None or (attending.branches is not None and len(attending.branches) > 1):
            return attending.run()
        q, keys, values = attending.q, attending.block.keys, attending.block.values
        if attending.branches is not None:
            branch = attending.branches[0]
            q, keys = scaled(attending.turned_q(branch, 0, n), branch), attending.turned_k(branch)
            if keys.shape[1] != values.shape[1]:
                return attending.run()
        if n == 1 and self._foldable(q, keys):
            return folded(q, keys, values, self._mask(attending, n), self.layer.scaling)
        kernel = self.runtime.stock_attention(self.module)
        mask = self._mask(attending, n)
        return kernel(self.module, q, keys, values, None if mask is None else by_query_head(mask, self.layer), **self.kwargs)[0]

    def _foldable(self, q: Tensor, keys: Tensor) -> bool:
        return self.runtime.fold_gqa and self._only_softmax and q.shape[1] > keys.shape[1]

    @property
    def _only_softmax(self) -> bool:
        plain = self.layer.softcap is None and not any(self.kwargs.get(name) is not None for name in ("s_aux", "position_bias"))
        return plain and not self.kwargs.get("dropout")

    @property
    def plain(self) -> bool:
        """Whether attention is a softmax over keys that are held at their angles, and its kernel may be another than stock's."""
        return self.runtime.fold_gqa and self._only_softmax and not self.raw and self.pattern is None and self.parts.prefill is None

    def phase(self, n: int) -> Phase:
        """Whether ``n`` new tokens are (a piece of) a prompt, or come after it."""
        cache = self.runtime.forward.cache
        step = n == 1 and (cache is None or not cache.driven)
        return "decode" if step or (cache is not None and cache.mode == "closed") else "prefill"
