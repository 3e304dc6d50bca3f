"""xKV: several layers in one low-rank form, held once."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from baywindow.errors import ConfigError, RecipeError
from baywindow.recipe import parse
from baywindow.window import attach
from baywindow.window.base import ModelInfo, Shape
from baywindow.window.block import Block, Flat, tensor_bytes
from baywindow.window.caches.base import Segment, Together
from baywindow.window.caches.xkv import XKV, Shared, XKVSegment, by_token, factors, multiplied

IDS = torch.randint(1, 97, (2, 50), generator=torch.Generator().manual_seed(9))


def joined(layer_of: Callable[..., Any], part: XKV, keys: list[Any], values: list[Any], positions: Any = None) -> Any:
    """What is stored for each layer of a model whose layer i holds ``keys[i]`` [B, H, L, D] and ``values[i]``, and the notes."""
    B, H, L, D = keys[0].shape
    layers = tuple(layer_of(index=i, q_heads=H, kv_heads=H, dim=D) for i in range(len(keys)))
    positions = torch.arange(L).expand(B, L) if positions is None else positions
    stored: dict[int, Segment] = {}
    notes: list[str] = []

    def store(i: int, counts: Any, make: Callable[[Flat], Segment]) -> None:
        stored[i] = make(Flat.of(plain(i).split(counts)[0]))

    def plain(i: int) -> Block:
        return Block(keys=keys[i], values=values[i], positions=positions)

    info = ModelInfo(name="x", layers=layers, trained_tokens=64, vocabulary=9)
    part.join(Together(info=info, layers=layers, protect_from=None, plain=plain, store=store, note=notes.append))
    return stored, notes


def random_layers(count: int, *shape: int, seed: int = 0) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for _ in range(count)]


def test_worked_example() -> None:
    """Two layers of one head and one channel, three tokens: (3, 4), (6, 8), (0, 0) side by side is (1, 2, 0) times (3, 4): rank 1 holds it
    exactly, as 5, 10, 0 along the direction (0.6, 0.8)."""
    one, other = torch.tensor([[3.0], [6], [0]]), torch.tensor([[4.0], [8], [0]])
    tokens, bases = factors([[one], [other]], share=0.5)
    sign = tokens[0, 0].sign()
    torch.testing.assert_close(tokens * sign, torch.tensor([[5.0], [10], [0]]))
    assert [float(b * sign) for b in bases] == pytest.approx([0.6, 0.8])
    torch.testing.assert_close(multiplied(tokens, bases[1], [3], 1), other)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_numpys_svd_of_the_layers_side_by_side(layer_of: Callable[..., Any], seed: int) -> None:
    """The paper's form: the group's keys as one matrix tokens × (layers · heads · dim), cut to rank r by SVD. Two rows, one of them with
    twelve tokens of padding in front."""
    keys, values = random_layers(2, 2, 2, 40, 4, seed=seed), random_layers(2, 2, 2, 40, 4, seed=seed + 10)
    positions = torch.stack([torch.arange(40), torch.arange(-12, 28).clamp(min=-1)])
    stored, _ = joined(layer_of, XKV(group_layers=2, key_rank=0.25, value_rank=0.5), keys, values, positions)
    for b, first in ((0, 0), (1, 12)):
        for parts, rank, name in ((keys, 4, "keys"), (values, 8, "values")):
            side = np.concatenate([p[b, :, first:].transpose(0, 1).reshape(40 - first, 8).numpy() for p in parts], axis=1)
            u, s, v = np.linalg.svd(side, full_matrices=False)
            want = (u[:, :rank] * s[:rank]) @ v[:rank]
            for i in range(2):
                block = getattr(stored[i].flat().block(), name)[b, :, first:]
                got = block.transpose(0, 1).reshape(40 - first, 8).numpy()
                np.testing.assert_allclose(got, want[:, 8 * i : 8 * i + 8], atol=1e-4)


def test_full_rank_is_exact_and_what_does_not_pay_stays(layer_of: Callable[..., Any]) -> None:
    keys, values = random_layers(2, 1, 2, 60, 4), random_layers(2, 1, 2, 60, 4, seed=1)
    tokens, bases = factors([by_token(k.flatten(0, 2), torch.tensor([[60, 60]])) for k in keys], 1.0)
    for i, basis in enumerate(bases):
        torch.testing.assert_close(multiplied(tokens, basis, [60], 2), keys[i].flatten(0, 2), atol=1e-5, rtol=1e-5)
    stored, notes = joined(layer_of, XKV(key_rank=1.0, value_rank=1.0), keys, values)
    assert not stored  # factors of full rank are larger than what they stand for
    assert "stayed as it is" in notes[0]


def test_the_longer_row_is_stored_and_the_one_that_does_not_pay_is_not(layer_of: Callable[..., Any]) -> None:
    """Width 8, rank 4 for both: the factors of n tokens hold 2 · 4 · (n + 8) numbers, less than 16 · n only above 8 tokens."""
    positions = torch.stack([torch.arange(20), torch.arange(-12, 8).clamp(min=-1)])
    stored, _ = joined(layer_of, XKV(key_rank=0.5, value_rank=0.5), random_layers(1, 2, 2, 20, 4), random_layers(1, 2, 2, 20, 4), positions)
    assert stored[0].counts.tolist() == [[20, 20], [0, 0]]


def test_claim_one_svd_over_layers_loses_less_than_one_a_layer_at_the_same_bytes(layer_of: Callable[..., Any]) -> None:
    """Layers whose keys share directions over tokens, as the paper found: with factors of no more bytes, the joint form is several
    times nearer."""
    generator = torch.Generator().manual_seed(3)
    common = torch.randn(400, 12, generator=generator)
    keys = []
    for _ in range(4):
        mixed = common @ torch.randn(12, 16, generator=generator) + 0.1 * torch.randn(400, 16, generator=generator)
        keys.append(mixed.view(1, 400, 2, 8).transpose(1, 2).contiguous())
    errors, sizes = [], []
    for group, rank in ((4, 0.1875), (1, 0.25)):  # 12 numbers a token of 64 · 12 / 64, or 4 of each layer's 16
        stored, _ = joined(layer_of, XKV(group_layers=group, key_rank=rank, value_rank=rank), keys, keys)
        errors.append(sum(float((stored[i].flat().block().keys - keys[i]).square().sum()) for i in range(4)))
        sizes.append(tensor_bytes(*(t for i in range(4) for n, t in stored[i].tensors().items() if "shared" in n or "basis" in n)))
    assert sizes[0] <= sizes[1]
    assert 3 * errors[0] < errors[1]


@torch.no_grad()
def test_the_group_holds_its_tokens_once_and_goes_on_sharing(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    part = XKV(key_rank=0.25, value_rank=0.25)
    stated = part.cost(Shape(layers=3, q_heads=4, kv_heads=2, head_dim=16, prompt_tokens=50, element_bytes=4)).bytes_kept
    with attach(model, "xkv(key_rank=0.25, value_rank=0.25)") as w:
        cache = w.cache()
        model(IDS[:1], past_key_values=cache)
        assert [type(s) for store in cache.stores for s in store.segments] == [XKVSegment] * 3
        numbers = [t for s in cache.stores for g in s.segments for n, t in g.tensors().items() if n not in ("positions", "counts")]
        assert tensor_bytes(*numbers) == stated < 3 * 50 * 2 * 2 * 16 * 4
        assert cache.nbytes() < sum(store.nbytes() for store in cache.stores)  # each layer alone would count what is shared
        twice = copy.deepcopy(cache)
        twice.batch_repeat_interleave(2)
        shared = {id(s.segments[0].tensors()["shared_keys"]) for s in twice.stores}
        assert len(shared) == 1
        again = [XKVSegment.restore(s.segments[0].tensors()) for s in twice.stores]
        picked = [s.rows(torch.tensor([1])) for s in again]
        assert len({id(s.tensors()["shared_keys"]) for s in picked}) == 1


def test_what_nobody_holds_any_more_is_freed() -> None:
    gc.collect()
    before = len(Shared._alive)
    shared = Shared.of(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, dtype=torch.int32))
    assert len(Shared._alive) == before + 1
    del shared
    gc.collect()
    assert len(Shared._alive) == before


@torch.no_grad()
def test_it_acts_once_at_the_end_and_later_tokens_stay(tiny: Callable[..., Any]) -> None:
    """In pieces or at once, the prompt is stored together once; a question kept out and generated tokens are plain."""
    model = tiny("llama")
    with attach(model, "xkv(residual_tokens=6)") as w:
        whole, pieces = w.prefill(IDS), w.prefill(IDS, w.cache(), chunk_tokens=7)
        for cache in (whole, pieces):
            assert [int(s.counts[0, 0]) for s in cache.store(2).segments] == [44]
            assert len(cache.store(2).tail) == 6
        a, b = (model(IDS[:, :1], past_key_values=cache).logits for cache in (whole, pieces))
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-4)
        assert len(whole.store(0).tail) == 7
        asked = w.cache(question_tokens=9)
        model(IDS, past_key_values=asked)
        assert int(asked.store(0).segments[0].counts[0, 0]) == 41


@torch.no_grad()
def test_more_rank_is_nearer_to_stock(tiny: Callable[..., Any]) -> None:
    model = tiny("llama")
    expected = model(torch.cat([IDS, IDS[:, :1]], dim=1)).logits[:, -1]
    errors = []
    for rank in (0.3, 0.15, 0.05):
        with attach(model, f"xkv(key_rank={rank}, value_rank={rank})") as w:
            cache = w.cache()
            model(IDS, past_key_values=cache)
            assert cache.store(0).segments
            errors.append(float((model(IDS[:, :1], past_key_values=cache).logits[:, -1] - expected).norm() / expected.norm()))
    assert errors[0] < errors[1] < errors[2]


@torch.no_grad()
def test_sliding_layers_are_no_part_of_a_group(tiny: Callable[..., Any]) -> None:
    model = tiny("gemma3")
    with attach(model, "xkv") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
    assert [len(s.segments) for s in cache.stores] == [0, 1, 0]


def test_what_is_refused() -> None:
    for options in ({"group_layers": 0}, {"key_rank": 0.0}, {"value_rank": 1.5}, {"residual_tokens": -1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            XKV(**options)  # type: ignore[arg-type]
    for other in ("snapkv(budget_tokens=64)", "kvzip(budget_tokens=64)"):
        with pytest.raises(RecipeError, match="every head holds other tokens"):
            parse(f"xkv + {other}")
    with pytest.raises(RecipeError, match="kivi packs rotated keys"):
        parse("xkv + kivi")
