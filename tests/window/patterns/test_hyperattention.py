"""HyperAttention: the order of buckets, blocks and samples against loops, and what it costs in error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow import recipe
from baywindow.errors import CapabilityError, ConfigError, RecipeError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.flash import flash, merge
from baywindow.window.patterns.hyperattention import Core, HyperAttention, gray_hash


def exact(q: Any, k: Any, v: Any) -> Any:
    """Causal attention of the last queries, by the formula."""
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    logits = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    hidden = torch.ones(logits.shape[2:], dtype=torch.bool).triu(1 + k.shape[2] - q.shape[2])
    return torch.softmax(logits.masked_fill(hidden, -torch.inf), dim=-1) @ v


def test_worked_example_neighbouring_buckets_differ_by_one_plane() -> None:
    """Three planes: the order of sign patterns is 000 001 011 010 110 111 101 100 (the first plane is the last digit)."""
    patterns = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 0, 1), (0, 0, 1)]
    x = torch.tensor(patterns, dtype=torch.float32) * 2 - 1
    assert gray_hash(x, torch.eye(3)).tolist() == list(range(8))


def test_parts_of_a_softmax_are_merged() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    out, norm = merge(*flash(q, k[:, :, :4], v[:, :, :4], 0.3), *flash(q, k[:, :, 4:], v[:, :, 4:], 0.3))
    want, want_norm = flash(q, k, v, 0.3)
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(norm, want_norm)
    torch.testing.assert_close(want_norm, (q @ k.transpose(2, 3) * 0.3).logsumexp(-1))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("n", "m"), [(12, 24), (13, 27), (30, 21)])
def test_the_core_against_a_loop(seed: int, n: int, m: int) -> None:
    """One head: sort by bucket, exact inside aligned blocks, samples outside them with weight keys / sample."""
    torch.manual_seed(seed)
    part = HyperAttention(block_tokens=8, sample_tokens=5, projections=3, least_tokens=4)
    q, k, v = torch.randn(1, 1, n, 6), torch.randn(1, 1, m, 6), torch.randn(1, 1, m, 6)
    got, norm = Core(part, 0.4, torch.Generator().manual_seed(seed), q)(q, k, v)
    draw = torch.Generator().manual_seed(seed)
    planes = torch.randn(6, 3, generator=draw)
    order, places = (gray_hash(t[0, 0], planes).argsort(stable=True).tolist() for t in (q, k))
    drawn = torch.randint(m, (1, 1, 5), generator=draw).flatten().tolist()
    blocks = m // 8
    rows, width = math.ceil(n / blocks), math.ceil(m / blocks)
    for at, i in enumerate(order):
        seen = [(places[j], 1.0) for j in range(m) if j // width == at // rows]
        seen += [(places[j], m / 5) for j in drawn if j // width != at // rows]
        weights = [math.exp(float(q[0, 0, i] @ k[0, 0, j]) * 0.4) * factor for j, factor in seen]
        want = sum(w * v[0, 0, j] for w, (j, _) in zip(weights, seen, strict=True)) / sum(weights)
        torch.testing.assert_close(got[0, 0, i], want, atol=1e-5, rtol=1e-4)
        assert float(norm[0, 0, i]) == pytest.approx(math.log(sum(weights)), abs=1e-4)


def test_limits_are_exact_attention(glance_at: Callable[..., Any]) -> None:
    """A block as large as the text, and a piece no longer than ``least_tokens`` allows."""
    torch.manual_seed(3)
    q, k = torch.randn(1, 4, 40, 8), torch.randn(1, 2, 65, 8)
    out = HyperAttention(block_tokens=64, least_tokens=8).attend(glance_at(q, k))
    torch.testing.assert_close(out, exact(q, k, k), atol=1e-5, rtol=1e-4)
    assert HyperAttention(least_tokens=41).attend(glance_at(q, k)) is None
    assert HyperAttention(least_tokens=8, layers=0).attend(glance_at(q, k)) is None


def test_claim_the_error_falls_as_block_and_sample_grow(glance_at: Callable[..., Any]) -> None:
    torch.manual_seed(4)
    q, k = torch.randn(1, 4, 512, 16), torch.randn(1, 2, 512, 16)
    want = exact(q, k, k)
    errors = []
    for size in (8, 32, 128):
        out = HyperAttention(block_tokens=size, sample_tokens=size, least_tokens=32).attend(glance_at(q, k))
        assert out is not None
        errors.append(float((out - want).norm() / want.norm()))
    assert errors[0] > 1.2 * errors[1] > 1.4 * errors[2]


@torch.no_grad()
def test_it_runs_in_the_engine_alike_each_time_and_in_pieces(tiny: Callable[..., Any]) -> None:
    model, ids = tiny("llama"), torch.randint(1, 97, (1, 60), generator=torch.Generator().manual_seed(5))
    stock = model(ids).logits
    with attach(model, "hyperattention(block_tokens=8, sample_tokens=8, least_tokens=8)") as w:
        one, two = (model(ids, past_key_values=w.cache()).logits for _ in range(2))
        pieces = w.prefill(ids, chunk_tokens=20)
        assert torch.isfinite(model(ids[:, :1], past_key_values=pieces).logits).all()
    assert torch.equal(one, two)
    assert not torch.allclose(one, stock, atol=1e-3)
    torch.testing.assert_close(one[:, :8], stock[:, :8], atol=1e-3, rtol=1e-3)  # the first queries see their own block alone


def test_cost_counts_the_cores() -> None:
    """8,192 tokens: one halving (8,192 → 4,096), whose 4,096 late queries meet 256 + 256 keys each, and the hashes."""
    shape = Shape(layers=1, q_heads=2, kv_heads=1, head_dim=4, prompt_tokens=8192)
    assert HyperAttention().cost(shape).flops == 4 * 2 * 4 * 4096 * 512 + 2 * 3 * 8192 * 4 * 7


def test_what_is_refused(tiny: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="block_tokens"):
        HyperAttention(block_tokens=0)
    with pytest.raises(ConfigError, match="layers"):
        HyperAttention(layers=-1)
    with pytest.raises(RecipeError, match="one angle"):
        recipe.parse("self_extend + hyperattention")
    with pytest.raises(CapabilityError, match="caps its logits"):
        attach(tiny("gemma2"), "hyperattention")
