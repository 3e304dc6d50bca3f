"""StreamingLLM: sinks and a window at every step, numbered inside the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.streaming_llm import StreamingLLM

IDS = torch.randint(1, 97, (1, 30), generator=torch.Generator().manual_seed(6))


@torch.no_grad()
def test_worked_example(tiny: Callable[..., Any]) -> None:
    """Two sinks, budget six, ten tokens: 0, 1 and 6 to 9 stay. Two more: 0, 1 and 8 to 11."""
    model = tiny("llama")
    with attach(model, "streaming_llm(budget_tokens=6, sink_tokens=2)") as w:
        cache = w.cache()
        model(IDS[:, :10], past_key_values=cache)
        assert cache.store(2).view().positions.tolist() == [[0, 1, 6, 7, 8, 9]]
        for i in (10, 11):
            model(IDS[:, i : i + 1], past_key_values=cache)
        assert cache.store(2).view().positions.tolist() == [[0, 1, 8, 9, 10, 11]]
        assert cache.get_seq_length() == 12


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("budget", [5, 9, 29])
def test_a_step_against_a_loop_written_from_the_paper(tiny: Callable[..., Any], seed: int, budget: int) -> None:
    """Layer 0's output for a token behind an evicted prompt: softmax over held keys rotated to 0, 1, 2, … and the query behind them."""
    model = tiny("llama", seed=seed)
    attention = model.model.layers[0].self_attn
    outputs: list[Any] = []
    hook = attention.register_forward_hook(lambda module, args, kwargs, out: outputs.append(out[0]), with_kwargs=True)
    try:
        with attach(model, f"streaming_llm(budget_tokens={budget}, sink_tokens=3)") as w:
            cache = w.cache()
            model(IDS[:, :29], past_key_values=cache)
            model(IDS[:, 29:], past_key_values=cache)
    finally:
        hook.remove()
    kept = [*range(3), *range(29 - (budget - 3), 29)] if budget < 29 else list(range(29))
    x = model.model.layers[0].input_layernorm(model.model.embed_tokens(IDS))[0]
    numbered = {token: rank for rank, token in enumerate([*kept, 29])}
    heads = []
    for head in range(4):
        w_q = attention.q_proj.weight[head * 16 : head * 16 + 16]
        w_k, w_v = (proj.weight[head // 2 * 16 : head // 2 * 16 + 16] for proj in (attention.k_proj, attention.v_proj))
        q = rotated(x[29] @ w_q.T, numbered[29])
        logits = torch.stack([q @ rotated(x[t] @ w_k.T, numbered[t]) for t in numbered]) / 4.0
        weights = torch.softmax(logits, dim=0)
        heads.append(sum(weight * (x[t] @ w_v.T) for weight, t in zip(weights, numbered, strict=True)))
    want = torch.cat(heads) @ attention.o_proj.weight.T
    torch.testing.assert_close(outputs[-1][0, 0], want, atol=1e-4, rtol=1e-4)


def rotated(x: Any, position: int) -> Any:
    """RoPE of one vector of 16, base 10,000, halves paired."""
    out = x.clone()
    for i in range(8):
        angle = torch.tensor(position * 10000.0 ** (-i / 8))
        out[i] = x[i] * angle.cos() - x[i + 8] * angle.sin()
        out[i + 8] = x[i + 8] * angle.cos() + x[i] * angle.sin()
    return out


@torch.no_grad()
def test_claim_no_distance_exceeds_the_budget_and_it_never_grows(tiny: Callable[..., Any]) -> None:
    """Far beyond the model's 64 positions, memory and the largest rotation stay at the budget, and the output does not drift: repeating
    the same eight tokens for ever gives the same logits once the window is full of them."""
    model = tiny("llama")
    period = IDS[:, :8]
    with attach(model, "streaming_llm(budget_tokens=20, sink_tokens=4)") as w:
        cache = w.cache()
        model(period, past_key_values=cache)
        logits, sizes = [], []
        for step in range(120):
            logits.append(model(period[:, step % 8 : step % 8 + 1], past_key_values=cache).logits[0, 0])
            sizes.append(cache.nbytes())
    assert cache.get_seq_length() == 128
    assert max(sizes[40:]) == min(sizes[40:])
    # Held keys are the same tokens at the same numbers every eight steps; deep layers need their own window to fill first.
    torch.testing.assert_close(logits[-1], logits[-9], atol=1e-4, rtol=1e-4)


def test_what_is_refused_and_what_it_costs() -> None:
    with pytest.raises(ConfigError, match="budget_tokens"):
        StreamingLLM(budget_tokens=4)
    with pytest.raises(ConfigError, match="sink_tokens"):
        StreamingLLM(sink_tokens=-1)
    cost = StreamingLLM(budget_tokens=10).cost(Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=100, generated_tokens=5))
    assert cost.bytes_kept == 10 * 2 * 2 * 2 * 8 * 2
    assert cost.flops == 3 * (2 * 2 * 8 * 10) * 5
