"""Which earlier keys each block of queries may see, by blocks and by single columns.

Ranks count a row's tokens as they are held, oldest first and holes left out. The n queries of a forward are the last n ranks; query
block i is the queries i·q_tokens to (i+1)·q_tokens, key block j the ranks j·k_tokens to (j+1)·k_tokens. What a selection names is what
stands *before* a query block: inside its own block a query always sees everything up to itself. So the causal mask is exact whatever
is selected, and only the own block ever needs one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BlockSelection:
    """``blocks`` int64 [B, h, nQ, m] of key blocks, in any order, −1 for none; a block named twice counts once, and of a block that
    reaches into the query block only the part before it. ``columns`` int64 [B, h, c] are single ranks that every query block behind
    them sees (−1 for none). h is 1, H or Hq. With ``fill`` the nearest keys that were not named are read too, up to a multiple of so
    many: kernels that work in tiles have them for nothing.
    """

    blocks: Tensor
    q_tokens: int
    k_tokens: int
    columns: Tensor | None = None
    fill: int = 1

    @staticmethod
    def of_mask(mask: Tensor, *, q_tokens: int, k_tokens: int, columns: Tensor | None = None, fill: int = 1) -> BlockSelection:
        """The blocks where ``mask`` [B, h, nQ, nK] is True."""
        most = int(mask.sum(dim=-1).max()) if mask.numel() else 0
        order = torch.argsort(mask.to(torch.uint8), dim=-1, descending=True, stable=True)[..., :most]
        blocks = order.masked_fill(~mask.gather(-1, order), -1)
        return BlockSelection(blocks=blocks, q_tokens=q_tokens, k_tokens=k_tokens, columns=columns, fill=fill)

    @property
    def heads(self) -> int:
        return self.blocks.shape[1]

    def for_heads(self, heads: int) -> BlockSelection:
        """The same for more heads: each of these h serves heads / h in a row."""
        times = heads // self.heads
        if times <= 1:
            return self
        columns = None if self.columns is None else self.columns.repeat_interleave(times, dim=1)
        return replace(self, blocks=self.blocks.repeat_interleave(times, dim=1), columns=columns)

    def before(self, i: int, start: int) -> Tensor:
        """What query block ``i``, whose first query has the rank ``start``, sees before itself: bool [B, h, start]."""
        blocks = self.blocks[:, :, i]
        count = -(-start // self.k_tokens)
        chosen = torch.zeros(*blocks.shape[:2], count + 1, dtype=torch.bool, device=blocks.device)  # the last takes what is not there
        chosen.scatter_(2, torch.where((blocks >= 0) & (blocks < count), blocks, count), True)
        tokens = chosen[..., :count, None].expand(-1, -1, -1, self.k_tokens).flatten(2)[..., :start]
        if self.columns is not None:
            tokens = torch.nn.functional.pad(tokens, (0, 1))
            tokens.scatter_(2, torch.where((self.columns >= 0) & (self.columns < start), self.columns, start), True)
            tokens = tokens[..., :start]
        return self._filled(tokens) if self.fill > 1 else tokens

    def _filled(self, tokens: Tensor) -> Tensor:
        """With the last ones of those left out that make the number a multiple of ``fill`` (all, if they are too few)."""
        left = ~tokens
        missing = (-tokens.sum(dim=-1, keepdim=True, dtype=torch.int32)) % self.fill
        behind = left.sum(dim=-1, keepdim=True, dtype=torch.int32) - left.cumsum(dim=-1, dtype=torch.int32)  # of those left out
        return tokens | (left & (behind < missing))

    def dense(self, first: int, last: int, n: int, length: int) -> Tensor:
        """Query rows ``first`` to ``last`` of n against all ``length`` ranks: bool [B, h, rows, length]; the own block is all True."""
        out = torch.zeros(*self.blocks.shape[:2], last - first, length, dtype=torch.bool, device=self.blocks.device)
        for i in range(first // self.q_tokens, -(-last // self.q_tokens)):
            begin, end = i * self.q_tokens, min((i + 1) * self.q_tokens, n)
            rows = out[:, :, max(begin, first) - first : min(end, last) - first]
            start = length - n + begin
            rows[..., :start] = self.before(i, start).unsqueeze(2)
            rows[..., start : length - n + end] = True
        return out
