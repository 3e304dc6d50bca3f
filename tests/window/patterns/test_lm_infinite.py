"""LM-Infinite: the Λ mask, and the one distance at which far first tokens are met."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow import recipe
from baywindow.errors import ConfigError, RecipeError
from baywindow.window import attach
from baywindow.window.patterns.lm_infinite import LMInfinite

IDS = torch.randint(1, 97, (1, 40), generator=torch.Generator().manual_seed(12))


def test_worked_example() -> None:
    """Two first tokens, a window of three: query 6 sees 0, 1 and 4, 5, 6."""
    part = LMInfinite(global_tokens=2, local_tokens=3)
    q, k = torch.tensor(6).view(1, 1, 1, 1), torch.arange(7).view(1, 1, 1, 7)
    assert part.visible(None, q, k).flatten().tolist() == [True, True, False, False, True, True, True]  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("first", "local", "limit"), [(2, 8, 8), (0, 8, 8), (3, 10, 6)])
def test_the_first_layer_against_a_loop_written_from_the_paper(
    tiny: Callable[..., Any], seed: int, first: int, local: int, limit: int
) -> None:
    model = tiny("llama", seed=seed)
    attention = model.model.layers[0].self_attn
    outputs: list[Any] = []
    hook = attention.register_forward_hook(lambda module, args, kwargs, out: outputs.append(out[0]), with_kwargs=True)
    try:
        with attach(model, f"lm_infinite(global_tokens={first}, local_tokens={local}, limit_tokens={limit})") as w:
            w.prefill(IDS, chunk_tokens=15)
    finally:
        hook.remove()
    got = torch.cat(outputs[-3:], dim=1)[0]
    x = model.model.layers[0].input_layernorm(model.model.embed_tokens(IDS))[0]
    for i in (0, 5, 11, 14, 15, 25, 39):
        heads = []
        chunk_end = min(40, i // 15 * 15 + 15)  # limit is capped by what there is when the query is fed
        for head in range(4):
            q = x[i] @ attention.q_proj.weight[head * 16 : head * 16 + 16].T
            group = head // 2 * 16
            k, v = (x @ proj.weight[group : group + 16].T for proj in (attention.k_proj, attention.v_proj))
            logits, seen = [], []
            for j in range(i + 1):
                if j < first or i - j < local:
                    distance = i - j if i - j < local else min(limit, chunk_end - 1)
                    logits.append(relative(q, k[j], distance) / 4.0)
                    seen.append(j)
            weights = torch.softmax(torch.stack(logits), dim=0)
            heads.append(sum(weight * v[j] for weight, j in zip(weights, seen, strict=True)))
        want = torch.cat(heads) @ attention.o_proj.weight.T
        torch.testing.assert_close(got[i], want, atol=1e-4, rtol=1e-4)


def relative(q: Any, k: Any, distance: int) -> Any:
    """q·k under RoPE depends on the distance alone: the sum over pairs of a rotation by distance × frequency."""
    total = torch.zeros(())
    for i in range(8):
        angle = distance * 10000.0 ** (-i / 8)
        cos, sin = math.cos(angle), math.sin(angle)
        total = total + (q[i] * k[i] + q[i + 8] * k[i + 8]) * cos + (q[i] * k[i + 8] - q[i + 8] * k[i]) * sin
    return total


@torch.no_grad()
def test_within_the_window_it_is_the_stock_model(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    expected = model(IDS).logits
    with attach(model, "lm_infinite(local_tokens=40)") as w:
        got = model(IDS, past_key_values=w.cache()).logits
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_claim_what_lies_between_does_not_matter_and_the_first_tokens_do(tiny: Callable[..., Any]) -> None:
    """The first layer of the last token: changing the hidden middle changes nothing, changing a first token does."""
    model = tiny("llama")
    outputs: list[Any] = []
    hook = model.model.layers[0].self_attn.register_forward_hook(lambda m, a, k, out: outputs.append(out[0][0, -1]), with_kwargs=True)
    middle, start = IDS.clone(), IDS.clone()
    middle[0, 5:30] = 7
    start[0, 1] = 7 if int(IDS[0, 1]) != 7 else 8
    try:
        with attach(model, "lm_infinite(global_tokens=3, local_tokens=8)") as w:
            outputs.clear()
            for ids in (IDS, middle, start):
                model(ids, past_key_values=w.cache())
    finally:
        hook.remove()
    torch.testing.assert_close(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-4)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="global_tokens"):
        LMInfinite(global_tokens=-1)
    with pytest.raises(ConfigError, match="local_tokens"):
        LMInfinite(local_tokens=0)
    with pytest.raises(RecipeError, match="at which distance"):
        recipe.parse("lm_infinite + rerope")
