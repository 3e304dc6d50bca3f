"""The door for positions: a rotary module that rotates by nothing, and the real angles on request.

`IdentityRotary` calls the model's own rotary module exactly as the model does, keeps its cos and sin for this forward, and returns
cos = 1, sin = 0, so queries and keys reach the cache un-rotated. `Turner` rotates later, through the model module's own
``apply_rotary_pos_emb``, so half, interleaved and partial layouts need no code here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from baywindow.errors import CapabilityError

Apply = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Record = Callable[[str, Tensor, Tensor, Tensor], None]


class IdentityRotary(nn.Module):
    """Stands in for ``inner``. ``record(key, position_ids, cos, sin)`` gets what the inner module gave; ``probing`` returns NaN for
    cos, so that whatever is rotated can be told by its NaNs."""

    def __init__(self, inner: nn.Module, record: Record) -> None:
        super().__init__()
        self.inner = inner
        self.record = record
        self.probing = False

    def forward(self, x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        out = self.inner(x, position_ids, *args, **kwargs)
        if not (isinstance(out, tuple) and len(out) == 2):
            raise CapabilityError(
                f"{type(self.inner).__name__} does not return cos and sin", hint="complex rotary (Llama 4 and its kin) is not supported"
            )
        cos, sin = out
        key = next((str(a) for a in (*args, kwargs.get("layer_type")) if isinstance(a, str)), "")
        self.record(key, position_ids, cos, sin)
        one = cos.new_full((), torch.nan if self.probing else 1.0)
        return one.expand_as(cos), cos.new_zeros(()).expand_as(sin)


class Turner:
    """Rotates any tensor to any positions with one of the model's frequency tables (``key``: Gemma 3 has one a layer type)."""

    def __init__(self, inner: nn.Module, key: str, apply: Apply, dtype: torch.dtype) -> None:
        self._inner = inner
        self._prefix = f"{key}_" if key else ""
        self._key = key
        self._apply = apply
        self._dtype = dtype  # of cos and sin, as the model's own module returns them
        self.columns = self._layout()  # the frequency that each column of cos belongs to: int64 [rotary_dim], on the CPU

    @property
    def inv_freq(self) -> Tensor:
        """The frequencies now in use, float32 [F] (dynamic scaling changes them as sequences grow)."""
        return getattr(self._inner, f"{self._prefix}inv_freq").float()  # type: ignore[no-any-return]

    @property
    def attention_scaling(self) -> float:
        return float(getattr(self._inner, f"{self._prefix}attention_scaling", 1.0))

    def cos_sin(self, at: Tensor, inv_freq: Tensor | None = None, scaling: float | None = None) -> tuple[Tensor, Tensor]:
        """cos and sin [..., rotary_dim] for positions ``at`` [...], or for positions by frequency [..., F] when ``inv_freq`` has the
        same last axis and ``at`` one axis more than a plain position tensor (the caller adds it: see `turn`)."""
        freq = (self.inv_freq if inv_freq is None else inv_freq.float()).to(at.device)
        angles = (at.float() * freq)[..., self.columns.to(at.device)]
        factor = self.attention_scaling if scaling is None else scaling
        return (angles.cos() * factor).to(self._dtype), (angles.sin() * factor).to(self._dtype)

    def turn(self, x: Tensor, at: Tensor, inv_freq: Tensor | None = None, scaling: float | None = None) -> Tensor:
        """``x`` [B, h, n, D] rotated to ``at``: [B, n], [B, h, n] or [B, h, n, F] (see `Branch`)."""
        B, h, n, D = x.shape
        if at.dim() == 2 and (inv_freq is None or inv_freq.dim() == 1):
            cos, sin = self.cos_sin(at[..., None], inv_freq, scaling)
            return self._apply(x, x, cos, sin)[0]
        at = at[:, None, :].expand(B, h, n) if at.dim() == 2 else at
        per_pair = at if at.dim() == 4 else at[..., None]
        freq = inv_freq[None, :, None, :] if inv_freq is not None and inv_freq.dim() == 2 else inv_freq
        cos, sin = self.cos_sin(per_pair, freq, scaling)
        cos, sin = (t.expand(B, h, n, -1).reshape(B * h, n, -1) for t in (cos, sin))
        flat = x.reshape(B * h, 1, n, D)
        return self._apply(flat, flat, cos, sin)[0].view(B, h, n, D)

    def mean_matrix(self, at: Tensor, head_dim: int) -> Tensor:
        """The mean of the rotations to positions ``at`` [B, m]: float32 [B, D, D], for row vectors. A rotation is linear in cos and sin,
        so rotating the unit vectors by their means gives it."""
        freq = self.inv_freq.to(at.device)
        angles = (at.float()[..., None] * freq)[..., self.columns.to(at.device)]
        cos, sin = (t.mean(dim=1, keepdim=True) * self.attention_scaling for t in (angles.cos(), angles.sin()))
        basis = torch.eye(head_dim, device=at.device).expand(at.shape[0], 1, -1, -1)
        return self._apply(basis, basis, cos.expand(-1, head_dim, -1), sin.expand(-1, head_dim, -1))[0][:, 0]

    def pair(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Both rotated with the cos and sin the model's own module gave for this forward: what the stock model does, bit for bit."""
        return self._apply(q, k, cos, sin)

    def _layout(self) -> Tensor:
        """Which frequency each column of cos belongs to, learned by asking the module with frequencies that tell themselves apart."""
        twin = copy.copy(self._inner)
        twin._buffers = dict(self._inner._buffers)
        freq = self.inv_freq
        marks = torch.linspace(0.1, 1.4, freq.shape[0], device=freq.device)  # sin is one-to-one below π/2
        setattr(twin, f"{self._prefix}inv_freq", marks)
        setattr(twin, f"{self._prefix}attention_scaling", 1.0)
        twin.rope_type = {self._key: "default"} if self._key else "default"  # type: ignore[assignment]
        x = torch.zeros(1, 1, 1, device=freq.device)
        position = torch.ones(1, 1, dtype=torch.long, device=freq.device)
        _, sin = twin(x, position, self._key) if self._key else twin(x, position)
        angle: Tensor = sin.float().flatten().asin()
        return (angle[:, None] - marks[None, :]).abs().argmin(dim=1).cpu()
