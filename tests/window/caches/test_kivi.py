"""KIVI: packed for real, keys by channel, values by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baywindow.errors import ConfigError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.block import Flat, tensor_bytes
from baywindow.window.caches.kivi import KIVI, KIVISegment, quantise, unpack

IDS = torch.randint(1, 97, (2, 50), generator=torch.Generator().manual_seed(9))


def test_worked_example() -> None:
    """2 bits, levels 0 to 3 between −1 and 5, step 2: −1 → 0, 1.2 → 1.1 → 1, 2.8 → 1.9 → 2, 5 → 3.
    Packed low bits first: 0 + 1·4 + 2·16 + 3·64 = 228. Read back: −1, 1, 3, 5."""
    packed = quantise(torch.tensor([-1.0, 1.2, 2.8, 5.0]), 2)
    assert packed.codes.tolist() == [228]
    assert (packed.low.item(), packed.scale.item()) == (-1.0, 2.0)
    assert unpack(packed, 2, torch.float32).tolist() == [-1.0, 1.0, 3.0, 5.0]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("n", [4, 8, 20])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_a_loop_written_from_the_paper(bits: int, n: int, seed: int) -> None:
    x = torch.randn(3, n, generator=torch.Generator().manual_seed(seed)) * 4
    got = unpack(quantise(x, bits), bits, torch.float32)[:, :n]
    for row, back in zip(x.tolist(), got.tolist(), strict=True):
        low, high, levels = min(row), max(row), 2**bits - 1
        step = (high - low) / levels
        want = [low + step * round((value - low) / step) for value in row]
        assert back == pytest.approx(want, abs=1e-4)


def test_equal_values_and_huge_ones_survive() -> None:
    assert unpack(quantise(torch.full((1, 8), 3.5), 2), 2, torch.float32).tolist() == [[3.5] * 8]
    huge = torch.tensor([[-1e6, 1e6, 0.0, 1e6]], dtype=torch.bfloat16)
    assert torch.isfinite(unpack(quantise(huge, 4), 4, torch.bfloat16)).all()


def segment(keys: Any, values: Any, bits: int = 2, group: int = 8) -> Any:
    n = keys.shape[0]
    flat = Flat(keys=keys, values=values, positions=torch.arange(n, dtype=torch.int32), counts=torch.tensor([[n]]))
    return KIVI(bits=bits, group_tokens=group, group_channels=8).encode(flat)


def test_claim_keys_by_channel_and_values_by_token_lose_least() -> None:
    """Keys with one large channel and values with one large token, as the paper found them: the wrong way round loses several times as
    much at the same bits."""
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(64, 16, generator=generator), torch.randn(64, 16, generator=generator)
    keys[:, 3] += 20.0  # a channel that is always large
    values[::8] *= 15.0  # tokens that are large
    right = segment(keys, values).flat()
    by_token = unpack(quantise(keys.reshape(64, 2, 8), 2), 2, torch.float32).flatten(1)
    by_channel = unpack(quantise(values.reshape(8, 8, 16).transpose(1, 2), 2), 2, torch.float32).transpose(1, 2).flatten(0, 1)
    assert 4 * (right.keys - keys).square().mean() < (by_token - keys).square().mean()
    assert 2 * (right.values - values)[1:8].square().mean() < (by_channel - values)[1:8].square().mean()


@pytest.mark.parametrize("bits", [2, 4])
def test_it_is_really_packed(bits: int) -> None:
    made = segment(torch.randn(64, 16), torch.randn(64, 16), bits)
    tensors = made.tensors()
    codes = tensor_bytes(tensors["key_codes"], tensors["value_codes"])
    assert codes == 2 * 64 * 16 * bits // 8
    assert not any(t.dtype == torch.float32 and t.numel() >= 64 * 16 for t in tensors.values())


def test_rows_are_picked_with_their_own_counts() -> None:
    """Row 0 holds 8 and 16 tokens in its two heads, row 1 none and 8."""
    counts = torch.tensor([[8, 16], [0, 8]])
    keys, values = torch.randn(32, 8), torch.randn(32, 8)
    flat = Flat(keys=keys, values=values, positions=torch.arange(32, dtype=torch.int32), counts=counts)
    made = KIVI(bits=8, group_tokens=8, group_channels=8).encode(flat)
    whole = made.flat()
    swapped = made.rows(torch.tensor([1, 0, 1]))
    assert swapped.counts.tolist() == [[0, 8], [8, 16], [0, 8]]
    order = [*range(24, 32), *range(24), *range(24, 32)]
    assert torch.equal(swapped.flat().keys, whole.keys[order])
    assert torch.equal(swapped.flat().values, whole.values[order])
    assert swapped.flat().positions.tolist() == order
    assert torch.equal(KIVISegment.restore(made.tensors()).flat().keys, whole.keys)


@torch.no_grad()
def test_eight_bits_are_nearly_stock_and_two_are_not(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    expected = model(torch.cat([IDS, IDS[:, :1]], dim=1)).logits[:, -1]
    errors = []
    for bits in (8, 4, 2):
        with attach(model, f"kivi(bits={bits}, group_tokens=8, residual_tokens=8)") as w:
            cache = w.cache()
            model(IDS, past_key_values=cache)
            errors.append(float((model(IDS[:, :1], past_key_values=cache).logits[:, -1] - expected).norm() / expected.norm()))
    assert errors[0] < 0.05
    assert errors[0] < errors[1] < errors[2]


@torch.no_grad()
def test_recent_tokens_stay_plain_and_later_ones_are_packed_in_groups(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    with attach(model, "kivi(bits=4, group_tokens=8, residual_tokens=10)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)  # 50 tokens: 40 packed, 10 plain
        store = cache.store(0)
        assert [int(s.counts[0, 0]) for s in store.segments] == [40]
        assert len(store.tail) == 10
        for i in range(8):
            model(IDS[:, i : i + 1], past_key_values=cache)
        assert [int(s.counts[0, 0]) for s in store.segments] == [40, 8]
        assert len(store.tail) == 10
        assert store.view().head_positions[0, 0].tolist() == list(range(58))


def test_what_is_refused() -> None:
    for options in ({"bits": 3}, {"group_tokens": 2}, {"residual_tokens": -1}, {"group_channels": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            KIVI(**options)  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize("bits", [2, 4])
def test_cost_states_the_bytes_that_are_held(tiny: Callable[..., Any], bits: int) -> None:
    model = tiny("llama")
    part = KIVI(bits=bits, group_tokens=8, residual_tokens=10)
    stated = part.cost(Shape(layers=3, q_heads=4, kv_heads=2, head_dim=16, prompt_tokens=50, element_bytes=4)).bytes_kept
    from baywindow.recipe import Recipe

    with attach(model, Recipe((part,))) as w:
        cache = w.cache()
        model(IDS[:1], past_key_values=cache)
    held = [t for s in cache.stores for g in s.segments for n, t in g.tensors().items() if n not in ("positions", "counts", "form")]
    held += [t for s in cache.stores for t in (s.tail.keys, s.tail.values)]
    assert tensor_bytes(*held) == stated
