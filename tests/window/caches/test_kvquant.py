"""KVQuant: 2 to 4 bits, packed without gaps, levels where the values are, outliers exact."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.cluster import KMeans

from baywindow.errors import CapabilityError, ConfigError, SourceError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import ModelInfo, Shape
from baywindow.window.block import Flat, tensor_bytes
from baywindow.window.caches._bits import pack_bits, packed_bytes, unpack_bits
from baywindow.window.caches.base import Packing
from baywindow.window.caches.kvquant import KVQuant
from baywindow.window.caches.kvquant.levels import best_levels, nearest, normal_levels, q_norm
from baywindow.window.caches.kvquant.segment import KVQuantSegment, beyond
from baywindow.window.engine import prepare as preparing
from baywindow.window.engine.prepare import prepare

IDS = torch.randint(1, 97, (2, 50), generator=torch.Generator().manual_seed(9))
TEXT = torch.randint(0, 97, (1, 64), generator=torch.Generator().manual_seed(0))
PREPARED = KVQuant(bits=3, samples=2, sequence_tokens=32, group_tokens=8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))


def flat_of(keys: Any, values: Any, counts: Any = None) -> Flat:
    counts = torch.tensor([[len(keys)]]) if counts is None else counts
    positions = torch.cat([torch.arange(n, dtype=torch.int32) for n in counts.flatten().tolist()])
    return Flat(keys=keys, values=values, positions=positions, counts=counts)


def packing(layer: Any, arrays: dict[str, Any] | None = None) -> Packing:
    info = ModelInfo(name="x", layers=(layer,), trained_tokens=64, vocabulary=9, arrays={"kvquant": arrays} if arrays else {})
    return Packing(info=info, layer=layer, watched=lambda: (torch.empty(0), torch.empty(0)))


# -- bits ---------------------------------------------------------------------------------------------------------------------------


def test_three_bits_are_three_bits() -> None:
    """Codes 1 to 7 and 0, low bits first: 1 + 2·8 + 3·64 + 4·512 + 5·4096 + 6·32768 + 7·262144 = 2054353 = 0x1F58D1."""
    packed = pack_bits(torch.tensor([[1, 2, 3, 4, 5, 6, 7, 0]]), 3)
    assert packed.tolist() == [[0xD1, 0x58, 0x1F]]
    assert unpack_bits(packed, 3, 8).tolist() == [[1, 2, 3, 4, 5, 6, 7, 0]]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.integers(0, 40), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_any_codes_come_back_from_no_more_bytes_than_stated(bits: int, n: int, rows: int, seed: int) -> None:
    codes = torch.randint(0, 1 << bits, (rows, n), generator=torch.Generator().manual_seed(seed))
    packed = pack_bits(codes, bits)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, packed_bytes(n, bits))
    assert torch.equal(unpack_bits(packed, bits, n).long(), codes)


# -- levels -------------------------------------------------------------------------------------------------------------------------


def test_two_levels_by_hand() -> None:
    """0, 1 and 9, 10: levels 0.5 and 9.5. With weight 3 on the 0 and on the 10: (0·3 + 1)/4 and (9 + 10·3)/4."""
    x = np.array([9.0, 0, 1, 10])
    assert best_levels(x, np.ones(4), 2).tolist() == [0.5, 9.5]
    assert best_levels(x, np.array([1.0, 3, 1, 3]), 2).tolist() == [0.25, 9.75]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_levels_lose_no_more_than_sklearns_weighted_k_means(seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = np.concatenate([draw.normal(-0.5, 0.1, 300), draw.normal(0.4, 0.2, 500)]).clip(-1, 1)
    weights = draw.exponential(1.0, 800) ** 2

    def loss(levels: Any) -> float:
        return float((weights * (x - nearest(x, np.sort(levels))) ** 2).sum())

    theirs = KMeans(8, n_init=1, max_iter=50, random_state=0).fit(x[:, None], sample_weight=weights).cluster_centers_[:, 0]
    ours = best_levels(x, weights, 8)
    assert loss(ours) < 1.001 * loss(theirs)
    assert loss(ours) < 0.5 * loss(np.linspace(-1, 1, 8))
    again = KMeans(8, n_init=1, init=ours[:, None], max_iter=1).fit(x[:, None], sample_weight=weights).cluster_centers_[:, 0]
    np.testing.assert_allclose(np.sort(again), ours, atol=0.01)  # one more round of theirs hardly moves them


def test_normal_levels_lie_closer_where_values_are_dense() -> None:
    levels = normal_levels(8, 0.01)
    np.testing.assert_allclose(levels, -levels[::-1], atol=2e-4)  # a grid stands for the density
    gaps = np.diff(levels)
    assert gaps[3] < gaps[2] < gaps[1] < gaps[0]
    wide = normal_levels(8, 1e-4)[4] * 3.8906
    assert abs(wide - 0.245) < 0.005  # Lloyd and Max's first level for eight, in deviations


def test_q_norm_restores_mean_and_spread() -> None:
    x = np.random.default_rng(0).normal(0.2, 0.3, 2000).clip(-1, 1)
    levels = best_levels(x, np.ones_like(x), 4)
    rounded = nearest(x, levels)
    read = q_norm(x, levels)[np.searchsorted(levels, rounded)]
    assert rounded.std() < x.std() - 0.01
    assert (read.mean(), read.std()) == pytest.approx((x.mean(), x.std()))


# -- what a segment holds -------------------------------------------------------------------------------------------------------------


def calibrated_arrays(heads: int, dim: int, bits: int, draw: Any) -> dict[str, Any]:
    ranges = np.stack([draw.normal(0, 5, (heads, dim)), draw.uniform(1, 2, (heads, dim))]).astype(np.float32)
    levels = [np.sort(draw.uniform(-1, 1, 1 << bits)).astype(np.float32) for _ in range(4)]
    return {"0.ranges": ranges, f"0.keys{bits}": np.stack(levels[:2]), f"0.values{bits}": np.stack(levels[2:])}


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_a_loop_written_from_the_paper(layer_of: Callable[..., Any], bits: int, seed: int) -> None:
    """Two rows, two heads, unequal counts; keys by calibrated channel, values by token, outliers as they are, first tokens whole."""
    draw = np.random.default_rng(seed)
    D, counts = 12, [[5, 3], [4, 6]]
    arrays = calibrated_arrays(2, D, bits, draw)
    keys = (arrays["0.ranges"][0].mean() + draw.normal(0, 3, (18, D))).astype(np.float32)
    values = draw.normal(0, 2, (18, D)).astype(np.float32)
    part = KVQuant(bits=bits, sink_tokens=1)
    flat = flat_of(torch.tensor(keys), torch.tensor(values), torch.tensor(counts))
    got = part.encode(flat, packing(layer_of(kv_heads=2, dim=D), arrays)).flat()
    token = 0
    for b in range(2):
        for h in range(2):
            for position in range(counts[b][h]):
                k, v = keys[token], values[token]
                want_k, want_v = [], []
                low, high = sorted(v)[1], sorted(v)[-2]  # one outlier on each side: floor(0.005 · 11) + 1
                for c in range(D):
                    centre, half = arrays["0.ranges"][:, h, c]
                    x = (k[c] - centre) / half
                    code = int(np.abs(arrays[f"0.keys{bits}"][0] - x).argmin())
                    want_k.append(k[c] if abs(x) > 1 or position < 1 else arrays[f"0.keys{bits}"][1][code] * half + centre)
                    x = (v[c] - (high + low) / 2) / ((high - low) / 2)
                    code = int(np.abs(arrays[f"0.values{bits}"][0] - x).argmin())
                    read = arrays[f"0.values{bits}"][1][code] * (high - low) / 2 + (high + low) / 2
                    want_v.append(v[c] if v[c] in (max(v), min(v)) or position < 1 else read)
                np.testing.assert_allclose(got.keys[token], want_k, atol=1e-4)
                np.testing.assert_allclose(got.values[token], want_v, atol=1e-4)
                token += 1
    assert torch.equal(got.positions, flat.positions)


def test_four_bits_stay_within_half_the_widest_step(layer_of: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(200, 16, generator=generator), torch.randn(200, 16, generator=generator)
    part = KVQuant(bits=4, calibrated=False, sink_tokens=0)
    got = part.encode(flat_of(keys, values), packing(layer_of(dim=16))).flat()
    levels = normal_levels(16, 0.01)
    widest = max(float(np.diff(levels).max()) / 2, float(levels[0] + 1), float(1 - levels[-1]))
    bound = widest * (keys.amax(dim=0) - keys.amin(dim=0)) / 2
    assert ((got.keys - keys).abs() <= bound + 1e-5).all()
    assert (got.values - values).abs().max() <= widest * float((values.amax(dim=1) - values.amin(dim=1)).max()) / 2 + 1e-5


def test_claim_channels_that_are_always_large_cost_nothing_before_rotation(layer_of: Callable[..., Any]) -> None:
    """Keys with a constant offset in some channels, rotated by position as a model does: quantised before by channel, they lose several
    times less than afterwards by token at the same 3 bits."""
    generator = torch.Generator().manual_seed(1)
    keys = torch.randn(256, 32, generator=generator)
    keys[:, [3, 20]] += 15.0
    angle = torch.arange(256)[:, None] * 0.5 ** torch.arange(16)

    def turned(x: Any) -> Any:
        a, b = x[:, :16], x[:, 16:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=1)

    made = KVQuant(bits=3, calibrated=False).encode(flat_of(keys, keys), packing(layer_of(dim=32))).flat().keys
    exact = turned(keys)
    low, high = exact.amin(dim=1, keepdim=True), exact.amax(dim=1, keepdim=True)
    even = ((exact - low) / (high - low) * 7).round() / 7 * (high - low) + low
    assert 5 * (turned(made) - exact).square().mean() < (even - exact).square().mean()


def test_outliers_are_exact_and_do_not_stretch_the_levels(layer_of: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(2)
    keys, values = torch.randn(400, 16, generator=generator), torch.randn(400, 16, generator=generator)
    keys[7, 3], values[9, 5] = 500.0, -500.0
    at = packing(layer_of(dim=16))
    sparse = KVQuant(bits=3, calibrated=False).encode(flat_of(keys, values), at).flat()
    dense = KVQuant(bits=3, calibrated=False, outlier_fraction=0.0).encode(flat_of(keys, values), at).flat()
    assert (float(sparse.keys[7, 3]), float(sparse.values[9, 5])) == (500.0, -500.0)
    assert float((sparse.keys - keys)[:, 3].abs().max()) < 1.5
    assert float((dense.keys - keys)[:, 3].abs().median()) > 10


def test_rows_are_picked_with_their_own_counts_outliers_and_ranges(layer_of: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(3)
    counts = torch.tensor([[8, 16], [0, 8]])
    keys, values = torch.randn(32, 8, generator=generator) * 3, torch.randn(32, 8, generator=generator)
    order = [*range(24, 32), *range(24), *range(24, 32)]
    calibrated = calibrated_arrays(2, 8, 3, np.random.default_rng(0))
    for part, arrays in ((KVQuant(sink_tokens=2), calibrated), (KVQuant(calibrated=False, sink_tokens=2), None)):
        made = part.encode(flat_of(keys, values, counts), packing(layer_of(kv_heads=2, dim=8), arrays))
        whole, swapped = made.flat(), made.rows(torch.tensor([1, 0, 1]))
        assert swapped.counts.tolist() == [[0, 8], [8, 16], [0, 8]]
        for name in ("keys", "values", "positions"):
            assert torch.equal(getattr(swapped.flat(), name), getattr(whole, name)[order])
        again = KVQuantSegment.restore(swapped.tensors()).flat()
        assert torch.equal(again.keys, swapped.flat().keys)
        assert made.rows(torch.tensor([1])).rows(torch.tensor([0])).flat().keys.shape == (8, 8)


def test_positions_with_gaps_are_kept(layer_of: Callable[..., Any]) -> None:
    flat = Flat(keys=torch.randn(4, 8), values=torch.randn(4, 8), positions=torch.tensor([0, 2, 3, 9]).int(), counts=torch.tensor([[4]]))
    made = KVQuant(calibrated=False).encode(flat, packing(layer_of(dim=8)))
    assert made.flat().positions.tolist() == [0, 2, 3, 9]
    run = KVQuant(calibrated=False).encode(flat_of(flat.keys, flat.values), packing(layer_of(dim=8)))
    assert run.tensors()["positions"].numel() == 1  # a sequence is said by its first


# -- in a model ---------------------------------------------------------------------------------------------------------------------


def test_prepare_finds_ranges_and_levels_of_un_rotated_keys(tiny: Callable[..., Any]) -> None:
    """Ranges are the percentiles of the model's own key projection; levels those of values weighted by squared gradients, which are
    taken here once more by hooks on the stock model."""
    model = tiny("llama")
    arrays = load_file(prepare(model, PREPARED, TEXT))
    assert set(arrays) == {f"{i}.{name}" for i in range(3) for name in ("ranges", *(k + b for k in ("keys", "values") for b in "234"))}
    attention, outs = model.model.layers[1].self_attn, []
    hook = attention.k_proj.register_forward_hook(lambda module, args, out: (out.retain_grad(), outs.append(out))[0])
    for piece in TEXT.split(32, dim=1):
        logits = model(piece).logits[0, :-1]
        torch.nn.functional.cross_entropy(logits, piece[0, 1:]).backward()
    hook.remove()
    keys = np.concatenate([o.detach()[0, 1:].view(31, 2, 16).numpy() for o in outs])
    gradients = np.concatenate([o.grad[0, 1:].view(31, 2, 16).numpy() for o in outs])
    model.zero_grad(set_to_none=True)
    low, high = np.percentile(keys, [0.5, 99.5], axis=0)
    np.testing.assert_allclose(arrays["1.ranges"][0], (low + high) / 2, atol=1e-4)
    np.testing.assert_allclose(arrays["1.ranges"][1], (high - low) / 2, atol=1e-4)
    scaled = (keys - (low + high) / 2) / ((high - low) / 2)
    inside = np.abs(scaled) <= 1
    want = best_levels(scaled[inside].astype(np.float64), gradients[inside].astype(np.float64) ** 2, 8)
    np.testing.assert_allclose(arrays["1.keys3"][0], want, atol=2e-3)


def test_a_stopped_preparation_goes_on_from_what_it_kept(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three pieces the third fails. What was kept then is the first two: the second run reads one piece, and finds the same."""
    model, text, read, real = tiny("llama"), torch.cat([TEXT, TEXT.flip(1)], dim=1)[:, :96], [], preparing._sensitivity

    def failing_at(n: int) -> Callable[..., None]:
        def run(runtime: Any, ids: Any, take: Any) -> None:
            read.append(ids)
            if len(read) == n:
                raise KeyboardInterrupt
            real(runtime, ids, take)

        return run

    part = replace(PREPARED, samples=3)
    monkeypatch.setattr(preparing, "_sensitivity", failing_at(3))
    with pytest.raises(KeyboardInterrupt):
        prepare(model, part, text)
    read.clear()
    monkeypatch.setattr(preparing, "_sensitivity", failing_at(99))
    resumed = load_file(prepare(model, part, text))
    assert len(read) == 1
    whole = load_file(prepare(model, part, text))
    assert len(read) == 1 + 3  # nothing is left of the checkpoint
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


def test_frozen_weights_are_calibrated_alike_and_get_no_gradients(tiny: Callable[..., Any]) -> None:
    model = tiny("qwen2")
    first = load_file(prepare(model, PREPARED, TEXT))
    model.requires_grad_(False)
    try:
        second = load_file(prepare(model, PREPARED, TEXT))
    finally:
        model.requires_grad_(True)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert all(p.grad is None for p in model.parameters())


@torch.no_grad()
def test_more_bits_come_nearer_to_stock(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    expected = model(torch.cat([IDS, IDS[:, :1]], dim=1)).logits[:, -1]
    errors = []
    prepare(model, PREPARED, TEXT)  # serves all bits
    for bits in (4, 3, 2):
        part = KVQuant(bits=bits, samples=2, sequence_tokens=32, group_tokens=8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with attach(model, Recipe((part,))) as w:
                cache = w.cache()
                model(IDS, past_key_values=cache)
                assert [int(s.counts[0, 0]) for s in cache.store(0).segments] == [48]
                errors.append(float((model(IDS[:, :1], past_key_values=cache).logits[:, -1] - expected).norm() / expected.norm()))
    assert errors[0] < errors[1] < errors[2]


@torch.no_grad()
def test_segments_of_a_layer_share_the_calibrated_tables(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    prepare(model, PREPARED, TEXT)
    with attach(model, Recipe((PREPARED,))) as w:
        cache = w.cache()
        model(IDS[:, :24], past_key_values=cache)
        model(IDS[:, 24:48], past_key_values=cache)
        one, two = (s.tensors() for s in cache.store(0).segments)
    for name in ("key_ranges", "key_levels", "value_levels"):
        assert one[name].data_ptr() == two[name].data_ptr()


@torch.no_grad()
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_cost_states_the_bytes_that_are_held(tiny: Callable[..., Any], bits: int) -> None:
    """To within the number of key outliers, which is an expectation there."""
    model = tiny("llama", "bfloat16")
    part = KVQuant(bits=bits, calibrated=False, group_tokens=8, residual_tokens=4, outlier_fraction=0.02)
    stated = part.cost(Shape(layers=3, q_heads=4, kv_heads=2, head_dim=16, prompt_tokens=50, element_bytes=2)).bytes_kept
    with attach(model, Recipe((part,))) as w:
        cache = w.cache()
        model(IDS[:1], past_key_values=cache)
    held = [t for s in cache.stores for g in s.segments for n, t in g.tensors().items() if n not in ("positions", "counts", "form")]
    held += [t for s in cache.stores for t in (s.tail.keys, s.tail.values)]
    assert abs(tensor_bytes(*held) - stated) < 0.12 * stated


def test_at_three_bits_less_than_a_quarter_is_held(layer_of: Callable[..., Any]) -> None:
    """Everything counted: codes, ranges, levels, outliers, positions."""
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(2 * 4096, 64, generator=generator).bfloat16() for _ in range(2))
    made = KVQuant(calibrated=False).encode(flat_of(keys, values, torch.tensor([[4096, 4096]])), packing(layer_of(kv_heads=2, dim=64)))
    assert tensor_bytes(*made.tensors().values()) <= 0.25 * 2 * 2 * 4096 * 64 * 2


def test_outliers_on_each_side() -> None:
    """floor(0.005 · (D − 1)) + 1, and none where none are wanted."""
    assert [beyond(0.01, d) for d in (16, 64, 128, 256)] == [1, 1, 1, 2]
    assert beyond(0.0, 64) == 0


def test_without_preparation_it_says_how(tiny: Callable[..., Any]) -> None:
    with pytest.raises(CapabilityError, match="kvquant was not prepared"):
        attach(tiny("llama"), "kvquant")


def test_what_is_refused(tiny: Callable[..., Any]) -> None:
    for options in (
        {"bits": 5},
        {"outlier_fraction": 0.5},
        {"sink_tokens": -1},
        {"samples": 0},
        {"sequence_tokens": 4},
        {"group_tokens": 0},
    ):
        with pytest.raises(ConfigError, match=next(iter(options))):
            KVQuant(**options)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="one piece needs 512"):
        prepare(tiny("llama"), KVQuant(), TEXT)
