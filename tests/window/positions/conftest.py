"""What the position tests share: an `Asked` with seeded content, the engine's logits, a slow rotary product, the test-bed model."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import LayerInfo, ModelInfo
from baywindow.window.block import Block
from baywindow.window.engine.attending import Attending
from baywindow.window.engine.rotary import Turner
from baywindow.window.positions.base import Asked, Position

EXTENSION = Path(__file__).parents[3] / "benchmarks" / "extension"


@cache
def _text() -> ModuleType:
    spec = importlib.util.spec_from_file_location("extension_text", EXTENSION / "text.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["extension_text"] = module
    spec.loader.exec_module(module)
    return module


def make_asked(
    n: int,
    length: int | None = None,
    *,
    trained: int = 64,
    layer: int = 0,
    heads: int = 2,
    kv: int = 1,
    dim: int = 8,
    base: float = 1e4,
    seed: int = 0,
    arrays: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
) -> Asked:
    """``length`` keys at positions 0 …, and the last ``n`` of them asking, with random content."""
    length = length or n
    at = LayerInfo(
        index=layer, layer_type="full_attention", sliding_window=None, has_rope=True, q_heads=heads, kv_heads=kv, head_dim=dim,
        value_dim=dim, rotary_dim=dim, scaling=dim**-0.5,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(seed)
    k_pos = torch.arange(length)[None]
    return Asked(
        info=ModelInfo(name="tiny", layers=(at,), trained_tokens=trained, vocabulary=10, arrays=arrays or {}),
        layer=at,
        q_pos=k_pos[:, length - n :],
        k_pos=k_pos,
        q=torch.randn(1, heads, n, dim, generator=draw),
        k=torch.randn(1, kv, length, dim, generator=draw),
        inv_freq=1.0 / base ** (torch.arange(dim // 2) * 2 / dim),
        attention_scaling=1.0,
        longest=length,
        state={} if state is None else state,
    )


def engine_logits(scheme: Position, asked: Asked) -> torch.Tensor:
    """Logits [Hq, n, L] that the engine computes from the scheme's branches (all pairs, also those a causal mask would hide)."""
    config = LlamaConfig(head_dim=asked.layer.head_dim, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    rotary = LlamaRotaryEmbedding(config)
    rotary.inv_freq = asked.inv_freq.clone()
    turner = Turner(rotary, "", lambda q, k, c, s: apply_rotary_pos_emb(q, k, c, s), torch.float32)
    block = Block(keys=asked.k, values=asked.k, positions=asked.k_pos)
    everyone = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    attending = Attending(
        layer=asked.layer,
        q=asked.q,
        block=block,
        allowed=lambda a, b: everyone,
        branches=scheme.branches(asked),
        asked=asked,
        turner=turner,
        query=asked.q,
        q_pos=asked.q_pos,
    )
    return attending.logits(0, asked.q.shape[2])[0]


def slow_logits(
    asked: Asked, angle: Callable[[int, int, int, int], float], scale: Callable[[int], float] = lambda p: 1.0, temperature: float = 1.0
) -> np.ndarray:
    """Logits [Hq, n, L] by loops. ``angle(head, i, j, pair)`` is how far pair turns between key j and query i, in radians;
    ``scale(i)`` multiplies a query's logits; ``temperature`` is the factor inside cos and sin. Only j ≤ i is filled."""
    q, k, half = asked.q[0].double().numpy(), asked.k[0].double().numpy(), asked.layer.head_dim // 2
    out = np.zeros((q.shape[0], q.shape[1], k.shape[1]))
    for h in range(q.shape[0]):
        for row, i in enumerate(asked.q_pos[0].tolist()):
            for j in range(min(i + 1, k.shape[1])):
                key = k[h // asked.layer.group, j]
                total = 0.0
                for f in range(half):
                    a, b, c, d = q[h, row, f], q[h, row, f + half], key[f], key[f + half]
                    turn = angle(h, i, j, f)
                    total += (a * c + b * d) * math.cos(turn) - (b * c - a * d) * math.sin(turn)
                out[h, row, j] = total * temperature**2 * asked.layer.scaling * scale(i)
    return out


def assert_same(engine: torch.Tensor, slow: np.ndarray, asked: Asked) -> None:
    """Equal wherever a causal mask lets a query look."""
    seen = (asked.k_pos[0][None, :] <= asked.q_pos[0][:, None]).numpy()
    np.testing.assert_allclose(engine.double().numpy()[:, seen], slow[:, seen], atol=2e-4)


class Testbed:
    """The committed model that retrieves within 256 tokens, and fresh questions of any length."""

    window = 256

    def __init__(self) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(EXTENSION / "model", dtype=torch.float32).eval()
        self.text = _text()

    @cache
    def questions(self, length: int, count: int, seed: int = 5) -> tuple[torch.Tensor, int]:
        """Ids [count, length] and where the one-token answers stand."""
        rng = np.random.default_rng((seed, length))
        made = [self.text.question(rng, length) for _ in range(count)]
        return torch.from_numpy(np.stack([m.ids for m in made])), made[0].start

    @cache
    @torch.no_grad()
    def answers(self, recipe: str | Recipe, length: int, count: int = 4) -> tuple[float, float]:
        """Accuracy and mean loss (nats) of the answers under a recipe."""
        ids, start = self.questions(length, count)
        with attach(self.model, recipe):
            logits = self.model(ids[:, :-1], logits_to_keep=1, use_cache=False).logits[:, -1].log_softmax(-1)
        gold = ids[:, start]
        return (logits.argmax(-1) == gold).float().mean().item(), -logits.gather(1, gold[:, None]).mean().item()


@pytest.fixture(scope="session")
def testbed() -> Testbed:
    return Testbed()


@pytest.fixture
def ask() -> Callable[..., Asked]:
    return make_asked


@pytest.fixture
def engine() -> Callable[[Position, Asked], torch.Tensor]:
    return engine_logits


@pytest.fixture
def slow() -> Callable[..., np.ndarray]:
    return slow_logits


@pytest.fixture
def same() -> Callable[[torch.Tensor, np.ndarray, Asked], None]:
    return assert_same
