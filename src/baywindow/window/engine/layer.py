"""One layer of one forward, from un-rotated queries to the output: rotate, store, read, mask, attend, settle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from baywindow.window.base import LayerInfo
from baywindow.window.block import LOG_TOKENS, Block
from baywindow.window.caches.base import Moment, Phase, Seen
from baywindow.window.engine.attending import Attending, by_query_head, folded, pair_positions
from baywindow.window.engine.masks import MaskSpec, additive
from baywindow.window.engine.packing import pack
from baywindow.window.engine.places import sequence_of
from baywindow.window.engine.reading import read
from baywindow.window.engine.recalling import recalled
from baywindow.window.engine.store import Store
from baywindow.window.positions.base import Asked, Branch

if TYPE_CHECKING:
    from baywindow.window.engine.runtime import Runtime


class LayerRun:
    """Made for one call of the attention function. ``spent`` counts the seconds that went into policies."""

    def __init__(
        self, runtime: Runtime, layer: LayerInfo, module: nn.Module, spec: MaskSpec, store: Store | None, kwargs: dict[str, Any]
    ) -> None:
        self.runtime, self.layer, self.module, self.spec, self.store, self.kwargs = runtime, layer, module, spec, store, kwargs
        self.parts = runtime.parts
        self.turner = runtime.turner(layer)
        position, pattern = self.parts.position, self.parts.pattern
        self.position = position if position is not None and (position.on_sliding or not layer.is_sliding) else None
        self.pattern = pattern if pattern is not None and (pattern.on_sliding or not layer.is_sliding) else None
        # Sliding layers never reach a cache policy; only a scheme that asks for them can make their keys be held un-rotated.
        moving = (self.position is not None and not self.position.fixed) or (self.pattern is not None and self.pattern.wants_raw_keys())
        self.raw = moving if layer.is_sliding else self.parts.raw
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
            q, k = self._rotate_new(query, key, q_pos)
        block = self._stored(k, value, q_pos)
        out = recalled(self, q, query, q_pos, block)
        attending = None
        if out is None or self.parts.watching:
            attending = self.attending(q, block, q_pos, query)
            out = self.attend(attending) if out is None else out
        if self.store is not None:
            self._settle(self.store, attending, query, q_pos)
        return out

    def _prefetch_next(self) -> None:
        cache, layers = self.runtime.forward.cache, self.runtime.info.layers
        if cache is not None:
            for segment in cache.store((self.layer.index + 1) % len(layers)).segments:
                segment.prefetch()

    # -- angles -----------------------------------------------------------------------------------------------------------

    def _rotate_new(self, query: Tensor, key: Tensor, q_pos: Tensor) -> tuple[Tensor, Tensor]:
        """New queries and keys at the angles they keep: the model's own, or those of a scheme that never changes them."""
        if self.turner is None:
            return query, key
        position = self.position
        if position is None:
            cos, sin = self.runtime.forward.angles[self.layer.rope_key]
            return self.turner.pair(query, key, cos, sin)
        [branch] = position.branches(self._asked(query, key, q_pos, q_pos))
        q = self.turner.turn(query, branch.q_at, branch.inv_freq, branch.attention_scaling)
        return scaled(q, branch), self.turner.turn(key, branch.k_at, branch.inv_freq, branch.attention_scaling)

    def _asked(self, q: Tensor, k: Tensor, q_pos: Tensor, k_pos: Tensor) -> Asked:
        longest = self.runtime.forward.memo.get("longest")
        if longest is None:
            longest = self.runtime.forward.memo["longest"] = int(q_pos.max()) + 1
        name = self.parts.position.card.name if self.parts.position else "positions"
        return Asked(
            info=self.runtime.info,
            layer=self.layer,
            q_pos=q_pos,
            k_pos=k_pos,
            q=q,
            k=k,
            inv_freq=self.turner.inv_freq if self.turner else q.new_zeros(0),
            attention_scaling=self.turner.attention_scaling if self.turner else 1.0,
            longest=longest,
            state=self.store.states.setdefault(name, {}) if self.store is not None else {},
        )

    def _branches(self, asked: Asked) -> tuple[list[Branch], Asked]:
        """The recipe's angles for raw keys, and the positions they speak of."""
        for cache in self.parts.caches if not self.layer.is_sliding else ():
            if (moved := cache.renumber(asked)) is not None:
                asked = replace(asked, q_pos=moved[0], k_pos=moved[1])
        pattern, position = self.pattern, self.position
        found = pattern.branches(asked) if pattern is not None else None
        if found is None and position is not None and self.turner is not None:
            found = position.branches(asked)
        return found or [Branch(q_at=asked.q_pos.clamp(min=0), k_at=asked.k_pos.clamp(min=0))], asked

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
            branches, asked = self._branches(self._asked(query, block.keys, q_pos, block.positions))
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
        asked = self._asked(query, block.keys, q_pos, block.positions) if acting else None

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
        plain = self.layer.softcap is None and not any(self.kwargs.get(name) is not None for name in ("s_aux", "position_bias"))
        plain = plain and not self.kwargs.get("dropout")
        return self.runtime.fold_gqa and plain and q.shape[1] > keys.shape[1]

    # -- policies -----------------------------------------------------------------------------------------------------------

    def phase(self, n: int) -> Phase:
        """Whether ``n`` new tokens are (a piece of) a prompt, or come after it."""
        cache = self.runtime.forward.cache
        step = n == 1 and (cache is None or not cache.driven)
        return "decode" if step or (cache is not None and cache.mode == "closed") else "prefill"

    def _settle(self, store: Store, attending: Attending | None, query: Tensor, q_pos: Tensor) -> None:
        cache = self.runtime.forward.cache
        if self.layer.is_sliding:
            store.trim()
            return
        if cache is None or not self.parts.caches:
            return
        started = time.perf_counter()
        phase = self.phase(query.shape[2])
        visible = q_pos
        if phase == "prefill" and cache.protect_from is not None:
            visible = q_pos.masked_fill(q_pos >= cache.protect_from[:, None], -1)
        if cache.watcher is not None and attending is not None:
            cache.watcher(self._seen(store, attending, query, visible, phase, {}))
        if cache.mode != "probe":
            self._watch(store, attending, query, visible, phase)
            if cache.mode != "hold":
                self.reduce(store, phase)
                if not self._packed_later(phase):
                    pack(self, store, phase)
        self.spent = time.perf_counter() - started
        cache.spend("caches", self.spent)

    def _packed_later(self, phase: Phase) -> bool:
        """Whether packing waits for the end of the prompt. While the driver feeds and a reducer acts, the next piece may drop more, and
        packed groups would be opened and cut anew each time; and what acts on all layers at the end wants tokens as they are."""
        cache = self.runtime.forward.cache
        fed = cache is not None and cache.driven and self.parts.reducer is not None
        return fed or (phase == "prefill" and self.parts.at_end)

    def _watch(self, store: Store, attending: Attending | None, query: Tensor, visible: Tensor, phase: Phase) -> None:
        idle = self.parts.prompt_only if phase == "decode" else frozenset()
        store.forget(idle)
        for part in self.parts.caches:
            if attending is not None and part.watches and part.card.name not in idle:
                state = store.states.setdefault(part.card.name, {})
                part.watch(self._seen(store, attending, query, visible, phase, state))
        cache = self.runtime.forward.cache
        window = self.parts.query_window
        if window and cache is not None and (phase == "prefill" or self.parts.votes_late):
            store.remember(query, visible, window + cache.question_tokens)

    def _seen(self, store: Store, attending: Attending, query: Tensor, visible: Tensor, phase: Phase, state: dict[str, Tensor]) -> Seen:
        return Seen(
            layer=self.layer,
            phase=phase,
            queries=query,
            q_pos=visible,
            block=attending.block,
            weights=attending.weights,
            state=state,
            tags=store.tail.tags if store.tail is not None else {},
        )

    def reduce(self, store: Store, phase: Phase) -> None:
        """Let the reducer choose, if this is its phase."""
        reducer = self.parts.reducer
        cache = self.runtime.forward.cache
        if reducer is None or cache is None or phase not in reducer.when:
            return
        seen = cache.row_tokens if phase == "decode" else None
        if seen is not None and not store.segments and store.tail is not None and reducer.idle(len(store.tail), seen):
            return
        block = store.view()
        stayed = reducer.reduce(self.moment(store, phase), block, self.parts.allocator)
        if stayed is block:
            if phase == "prefill":
                cache.note(f"{reducer.card.name}: the budget was not below the prompt; nothing was dropped in some layer")
            return
        store.replace(stayed, dense="decode" in reducer.when or bool(stayed.tags))

    def moment(self, store: Store, phase: Phase) -> Moment:
        cache = self.runtime.forward.cache
        assert cache is not None
        assert cache.row_tokens is not None
        part = self.parts.reducer
        queries, q_pos = last_valid(store, part.query_window() if part is not None else 0)
        seen, protect_from = cache.row_tokens, cache.protect_from if phase == "prefill" else None
        if protect_from is not None:  # positions count from 0 in every row, so this is how many tokens stand before the question
            seen = torch.minimum(seen, protect_from.clamp(min=0))
        return Moment(
            info=self.runtime.info,
            layer=self.layer,
            phase=phase,
            seen=seen,
            protect_from=protect_from,
            queries=queries,
            q_pos=q_pos,
            weights=self._weights_of,
            keys=self.rotated_keys,
            turn=self._mean_turn,
            state=store.states.setdefault(part.card.name, {}) if part is not None else {},
            shared=self.runtime.forward.memo.setdefault("shared", {}),
        )

    def rotated_keys(self, block: Block) -> Tensor:
        """Keys at their angles, whether they are held so or not."""
        if not self.raw or self.turner is None:
            return block.keys
        position = self.position
        if position is not None and position.fixed:
            [branch] = position.branches(self._asked(block.keys, block.keys, block.positions[:, -1:], block.positions))
            return self.turner.turn(block.keys, branch.k_at, branch.inv_freq, branch.attention_scaling)
        return self.turner.turn(block.keys, block.positions.clamp(min=0))

    def _mean_turn(self, at: Tensor) -> Tensor:
        """The mean rotation over positions ``at`` [B, m]: [B, D, D]."""
        if self.turner is None:
            return torch.eye(self.layer.head_dim, device=at.device).expand(at.shape[0], -1, -1)
        return self.turner.mean_matrix(at, self.layer.head_dim)

    def _weights_of(self, queries: Tensor, q_pos: Tensor, block: Block) -> Tensor:
        """Softmax weights of un-rotated queries over a block, with the recipe's angles and masks: float32 [B, Hq, w, L]."""
        q = queries
        if not self.raw and self.turner is not None:
            q = self.rotate_new_at(queries, q_pos)
        return self.attending(q, block, q_pos, queries).weights(0, queries.shape[2])

    def rotate_new_at(self, queries: Tensor, q_pos: Tensor) -> Tensor:
        assert self.turner is not None
        position = self.position
        if position is None:
            return self.turner.turn(queries, q_pos.clamp(min=0))
        [branch] = position.branches(self._asked(queries, queries[:, :: self.layer.group], q_pos, q_pos))
        return scaled(self.turner.turn(queries, branch.q_at, branch.inv_freq, branch.attention_scaling), branch)


def scaled(q: Tensor, branch: Branch) -> Tensor:
    """Queries times the branch's logit scale."""
    if branch.query_scale is None:
        return q
    scale = branch.query_scale
    return q * (scale[:, None, :, None] if scale.dim() == 2 else scale[..., None]).to(q.dtype)


def last_valid(store: Store, window: int) -> tuple[Tensor, Tensor]:
    """The last ``window`` queries that are neither padding nor the question: [B, Hq, w, D] at [B, w] (−1 where a row has fewer)."""
    watched = store.watched
    if watched is None or window == 0:
        layer = store.layer
        device = store.tail.keys.device if store.tail is not None else torch.device("cpu")
        batch = max(store.batch_size, 0)
        return torch.zeros(batch, layer.q_heads, 0, layer.head_dim, device=device), torch.zeros(batch, 0, dtype=torch.long, device=device)
    held = watched.q_pos >= 0
    n = min(window, held.shape[1])
    order = torch.argsort(held, dim=1, stable=True)[:, -n:]  # holes first, then tokens in order
    at = order[:, None, :, None].expand(-1, watched.queries.shape[1], -1, watched.queries.shape[3])
    return watched.queries.gather(2, at), watched.q_pos.gather(1, order)
