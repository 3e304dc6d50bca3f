"""Every legal pair of techniques runs: at full budget it equals the other part alone, at a small one it holds what it states."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow import registry
from baywindow.recipe import Recipe, make
from baywindow.window import attach, pairs
from baywindow.window.base import Calibrated, ModelInfo, Shape
from baywindow.window.caches.base import CachePolicy, Narrower, Quantiser

IDS = torch.randint(1, 97, (2, 48), generator=torch.Generator().manual_seed(10))
SMALL = {"budget_tokens": 16, "window_tokens": 4, "residual_tokens": 8, "group_tokens": 4, "local_tokens": 24, "calibrated": False}
NEUTRAL = {
    "budget_tokens": 4096, "residual_tokens": 4096, "local_tokens": 4096, "window_tokens": 4, "floor_fraction": 1.0, "calibrated": False
}  # fmt: skip


def part(name: str, options: dict[str, Any]) -> Any:
    fields = {field.name for field in dataclasses.fields(registry.get(name))}  # type: ignore[arg-type]
    if issubclass(registry.get(name), CachePolicy) or registry.card(name).room.endswith("patterns"):
        return make(name, {k: v for k, v in options.items() if k in fields})
    return make(name, {})


def ready(name: str) -> bool:
    """Whether it runs without having been prepared."""
    made = part(name, SMALL)
    return not isinstance(made, Calibrated) or made.ready(ModelInfo(name="x", layers=(), trained_tokens=64, vocabulary=97))


NAMES = [n for n in pairs.inside_names() if ready(n)]
LEGAL = [(a, b) for a, b in itertools.combinations(NAMES, 2) if not pairs.refusal(a, b)]
CACHES = [n for n in NAMES if issubclass(registry.get(n), CachePolicy)]


def run(model: Any, *parts: Any) -> tuple[Any, Any]:
    """Logits of a prompt and three steps, and the cache."""
    with torch.no_grad(), attach(model, Recipe(parts)) as w:
        cache = w.cache()
        logits = [model(IDS[:, :45], past_key_values=cache).logits[:, -1]]
        logits += [model(IDS[:, i : i + 1], past_key_values=cache).logits[:, -1] for i in (45, 46, 47)]
    return torch.stack(logits), cache


def packs_rotated_keys(name: str) -> bool:
    kind = registry.get(name)
    return issubclass(kind, Quantiser | Narrower) and not kind.needs_raw_keys


def check_pair(model: Any, a: str, b: str) -> None:
    third = [part(n, SMALL) for n in pairs.with_companion(a, b)[2:]]
    for neutral, other in ((a, b), (b, a)):
        if neutral not in CACHES or registry.card(other).slot == "allocate":
            continue  # a position or pattern has no budget; an allocator has nothing to share out alone
        if packs_rotated_keys(other) and registry.get(neutral).needs_raw_keys:  # type: ignore[attr-defined]
            continue  # alone it packs or narrows rotated keys, here un-rotated ones: what is lost differs
        alone, _ = run(model, part(other, SMALL), *third)
        both, _ = run(model, part(neutral, NEUTRAL), part(other, SMALL), *third)
        torch.testing.assert_close(both, alone, atol=3e-5, rtol=1e-4)
    parts = [part(a, SMALL), part(b, SMALL), *third]
    _, cache = run(model, *parts)
    check_bytes(cache, parts)


def check_bytes(cache: Any, parts: list[Any]) -> None:
    """Keys and values held are those of the stated budget (as packed as stated), plus the three tokens that came later."""
    reducer = next((p for p in parts if p.card.slot == "reduce"), None)
    packer = next((p for p in parts if isinstance(p, Quantiser)), None)
    held = sum(int(h.sum()) for h in cache.held())
    later = 3 if reducer is None or "decode" not in getattr(reducer, "when", ()) else 0
    tokens = (45 if reducer is None else 16) + later
    assert held <= tokens * 3 * 2 * 2
    shape = Shape(layers=3, q_heads=4, kv_heads=2, head_dim=16, prompt_tokens=tokens, element_bytes=4)
    stated = packer.cost(shape).bytes_kept if packer is not None else tokens * shape.token_bytes
    named = ("keys", "values", "key_codes", "key_scale", "key_low", "value_codes", "value_scale", "value_low")
    real = sum(t.numel() * t.element_size() for s in cache.stores for g in s.segments for n, t in g.tensors().items() if n in named)
    real += sum(t.numel() * t.element_size() for s in cache.stores if s.tail for t in (s.tail.block.keys, s.tail.block.values))
    slack = 4 * 3 * 2 * 2 * 2 * 16 * 4 if packer is not None else 0  # a group that is not full stays plain, in each head
    assert real <= 2 * stated + slack


FAST = [
    p
    for p in LEGAL
    if set(p) in ({"self_extend", "snapkv"}, {"snapkv", "kivi"}, {"ada_kv", "snapkv"}, {"yarn", "kivi"}, {"lm_infinite", "random"},
                  {"kivi", "offload"}, {"self_extend", "streaming_llm"}, {"ada_kv", "yarn"})
]  # fmt: skip


@pytest.mark.parametrize("pair", FAST, ids=" + ".join)
def test_a_pair_of_each_kind(tiny: Callable[..., Any], pair: tuple[str, str]) -> None:
    check_pair(tiny("llama"), *pair)


@pytest.mark.slow
@pytest.mark.parametrize("first", sorted({a for a, _ in LEGAL}))
def test_every_legal_pair(tiny: Callable[..., Any], first: str) -> None:
    for a, b in LEGAL:
        if a == first:
            try:
                check_pair(tiny("llama"), a, b)
            except Exception as error:
                raise AssertionError(f"{a} + {b}: {error}") from error


def test_three_roles_and_a_position_together(tiny: Callable[..., Any]) -> None:
    """The whole chain: what stays, shared among heads, packed, moved, under extended positions."""
    parts = [part(n, SMALL) for n in ("self_extend", "ada_kv", "snapkv", "kivi", "offload")]
    _, cache = run(tiny("llama"), *parts)
    before = torch.stack([h - 3 for h in cache.held()])
    assert int(before.sum()) == 16 * 3 * 2 * 2
    assert int(before.min()) < int(before.max())


def test_the_table_names_a_reason_for_every_refusal() -> None:
    text = pairs.table(["self_extend", "yarn", "lm_infinite", "snapkv", "streaming_llm", "kivi", "ada_kv"])
    rows = text.splitlines()
    assert rows[0].count("|") == 9
    assert "✓" in text
    assert "a recipe has one technique of the room window/positions" in text
    assert "drops tokens at every step" in text
    assert pairs.refusal("snapkv", "kivi") == ""
    assert "slot" in pairs.refusal("snapkv", "tova")
