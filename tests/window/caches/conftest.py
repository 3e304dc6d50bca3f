"""What the cache tests share: a moment and a block with stated content, without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.window import attach
from baywindow.window.base import LayerInfo, ModelInfo
from baywindow.window.block import Block
from baywindow.window.caches.base import Moment
from baywindow.window.recall import Lookup


def layer_of(
    *, index: int = 0, q_heads: int = 1, kv_heads: int = 1, dim: int = 2, scaling: float = 1.0, sliding: bool = False
) -> LayerInfo:
    return LayerInfo(
        index=index, layer_type="sliding_attention" if sliding else "full_attention", sliding_window=8 if sliding else None, has_rope=True,
        q_heads=q_heads, kv_heads=kv_heads, head_dim=dim, value_dim=dim, rotary_dim=dim, scaling=scaling,
    )  # fmt: skip


def make_moment(
    *, weights: Any = None, keys: Any = None, values: Any = None, kv_heads: int = 1, layers: int = 1, at_layer: int = 0,
    sliding: tuple[int, ...] = (), positions: Any = None, tags: dict[str, Any] | None = None, state: dict[str, Any] | None = None,
    protect_from: Any = None, q_heads: int | None = None, scaling: float = 1.0, turn: Callable[[Any], Any] | None = None,
) -> tuple[Moment, Block]:  # fmt: skip
    """A prompt of L tokens that has just been read. ``weights`` [B, Hq, w, L] are what the last w queries see."""
    known = next(x for x in (keys, values, next(iter((tags or {}).values()), None), weights) if x is not None)
    B, L = known.shape[0], weights.shape[3] if known is weights else known.shape[2]
    if known is not weights:
        kv_heads = known.shape[1]
    Hq = q_heads or (weights.shape[1] if weights is not None else kv_heads)
    keys = torch.zeros(B, kv_heads, L, 2) if keys is None else keys
    dim = keys.shape[-1]
    positions = torch.arange(L).expand(B, L) if positions is None else positions
    block = Block(keys=keys, values=torch.zeros(B, kv_heads, L, dim) if values is None else values, positions=positions, tags=tags or {})
    window = weights.shape[2] if weights is not None else 0
    infos = tuple(layer_of(index=i, q_heads=Hq, kv_heads=kv_heads, dim=dim, scaling=scaling, sliding=i in sliding) for i in range(layers))
    rows = positions if positions.dim() == 2 else positions[:, 0]
    seen = (rows.amax(dim=1) + 1) if protect_from is None else torch.minimum(rows.amax(dim=1) + 1, protect_from)
    made = Moment(
        info=ModelInfo(name="x", layers=infos, trained_tokens=64, vocabulary=9),
        layer=infos[at_layer], phase="prefill", seen=seen, protect_from=protect_from,
        queries=torch.zeros(B, Hq, window, dim), q_pos=rows[:, L - window :], weights=lambda q, p, b: weights,
        keys=lambda b: b.keys, turn=turn or (lambda at: torch.eye(dim).expand(B, dim, dim)), state=state if state is not None else {},
    )  # fmt: skip
    return made, block


@pytest.fixture(name="make_moment")
def _make_moment() -> Callable[..., tuple[Moment, Block]]:
    return make_moment


@pytest.fixture(name="layer_of")
def _layer_of() -> Callable[..., LayerInfo]:
    return layer_of


@pytest.fixture
def next_logits(tiny: Callable[..., Any]) -> Callable[[Any, str], Any]:
    """Read tokens [1, n] through a recipe, then one more: its logits."""
    model = tiny("llama")

    def after(ids: Any, recipe: str) -> Any:
        with torch.no_grad(), attach(model, recipe) as w:
            cache = w.cache()
            model(ids, past_key_values=cache)
            return model(ids[:, :1], past_key_values=cache).logits

    return after


def make_lookup(keys: Any, queries: Any, *, state: dict[str, Any] | None = None, watched: Any = None, **options: Any) -> Lookup:
    """What a recaller is asked: queries [B, Hq, n, D] whose own keys are the last n of ``keys`` [B, H, L, D], nothing rotated."""
    B, H, L, D = keys.shape
    n = queries.shape[2]
    layer = layer_of(index=options.pop("index", 5), q_heads=queries.shape[1], kv_heads=H, dim=D, scaling=options.pop("scaling", 1.0))
    positions = options.pop("positions", torch.arange(L).expand(B, L))
    watched = queries[:, :, :0] if watched is None else watched
    return Lookup(
        info=ModelInfo(name="x", layers=(layer,), trained_tokens=64, vocabulary=9), layer=layer,
        block=Block(keys=keys, values=keys, positions=positions), past=L - n, holes=bool((positions < 0).any()),
        keys=lambda start, stop: keys[:, :, start:stop], turn=lambda q, at: q,
        watched=lambda: (watched, torch.arange(watched.shape[2]).expand(B, -1)), state={} if state is None else state,
        phase=options.pop("phase", "decode"), queries=queries, q_pos=positions[:, L - n :], turned=lambda: queries, **options,
    )  # fmt: skip


@pytest.fixture(name="make_lookup")
def _make_lookup() -> Callable[..., Lookup]:
    return make_lookup
