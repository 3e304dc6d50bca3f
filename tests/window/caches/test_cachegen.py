"""CacheGen: a saved context in a third of the bytes, near what it was, refused when it is damaged."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from baywindow.errors import ConfigError, ModelError, SourceError
from baywindow.window import attach
from baywindow.window.base import Shape
from baywindow.window.caches.cachegen import CacheGen, coding, files, pieces
from baywindow.window.caches.cachegen.choice import Chunk, Rates, Step, choose, plan
from baywindow.window.caches.cachegen.levels import bins_of, steps_of
from baywindow.window.engine import saving

IDS = torch.randint(1, 97, (2, 50), generator=torch.Generator().manual_seed(31))


def local_text(tokens: int, channels: int, *, seed: int = 0) -> Any:
    """Keys with what real ones have: a large constant by channel, a slow drift, and a little noise: float32 [T, C]."""
    draw = np.random.default_rng(seed)
    constant = draw.normal(size=channels) * np.where(np.arange(channels) % 8 == 0, 20, 2)
    drift = np.cumsum(draw.normal(size=(tokens, channels)) * 0.05, axis=0)
    return (constant + drift + 0.1 * draw.normal(size=(tokens, channels))).astype(np.float32)


# -- levels ---------------------------------------------------------------------------------------------------------------------------


def test_bins_of_the_released_model_and_of_a_smaller_one() -> None:
    """Quality 2 of 32 layers: keys 32 before layer 10, 16 from there on; values 32 in layers 0 and 1. With 24 layers the borders
    10/32, 20/32 and 2/32 lie at 7.5, 15 and 1.5."""
    assert [bins_of(2, "keys", i, 32) for i in (0, 9, 10, 31)] == [32, 32, 16, 16]
    assert [bins_of(1, "keys", i, 24) for i in (0, 7, 8, 14, 15, 23)] == [16, 16, 16, 16, 12, 12]
    assert [bins_of(2, "values", i, 24) for i in (0, 1, 2, 23)] == [32, 32, 16, 16]
    assert [steps_of(bins) for bins in (12, 16, 32, 256)] == [5, 7, 15, 127]


# -- coding ---------------------------------------------------------------------------------------------------------------------------


def test_octaves_and_the_probabilities_they_stand_for() -> None:
    """Counts 0, 1, 2, 3, 8: none, 2^0, 2^1, 2^1.58 ≈ 2^2, 2^3. Weights 0, 1, 2, 4, 8 of 15."""
    table = coding.octaves(np.array([0, 1, 2, 3, 8]))
    assert table.tolist() == [0, 1, 2, 3, 4]
    symbols = np.array([[4]] * 8 + [[3]] * 3 + [[2]] * 2 + [[1]], dtype=np.int32)
    tables, code = coding.encode(symbols, 5)
    bits = 8 * math.log2(15 / 8) + 3 * math.log2(15 / 4) + 2 * math.log2(15 / 2) + math.log2(15)
    assert bits <= 8 * len(code) <= bits + 64
    assert coding.decode(tables, code, symbols.shape, 5).tolist() == symbols.tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shared", [False, True])
def test_coding_is_exact_and_near_the_entropy(seed: int, shared: bool) -> None:
    """Oracle: the entropy of the columns, counted in a dictionary."""
    draw = np.random.default_rng(seed)
    symbols = np.clip(np.round(draw.normal(size=(700, 5)) * draw.uniform(0.3, 4, size=5)) + 15, 0, 31).astype(np.int32)
    tables, code = coding.encode(symbols, 32, shared=shared)
    assert np.array_equal(coding.decode(tables, code, symbols.shape, 32, shared=shared), symbols)
    ideal = 0.0
    for column in symbols.reshape(-1, 1).T if shared else symbols.T:
        counts: dict[int, int] = {}
        for s in column.tolist():
            counts[s] = counts.get(s, 0) + 1
        ideal -= sum(n * math.log2(n / len(column)) for n in counts.values())
    assert ideal <= 8 * len(code) <= 1.02 * ideal + 64


def test_claim_a_table_for_each_channel_needs_fewer_bytes_than_one_for_all() -> None:
    """The paper's third insight, tables counted too: channels spread differently, so a common table fits none of them."""
    spreads = np.array([0.4, 1.0, 2.0, 5.0] * 4)
    symbols = np.clip(np.round(np.random.default_rng(2).normal(size=(1000, 16)) * spreads) + 15, 0, 30).astype(np.int32)
    own, common = (sum(map(len, coding.encode(symbols, 32, shared=shared))) for shared in (False, True))
    assert own < 0.9 * common


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (3, 4)])
def test_the_smallest_shapes_and_a_single_symbol(shape: tuple[int, int]) -> None:
    symbols = np.full(shape, 6, dtype=np.int32)
    tables, code = coding.encode(symbols, 12)
    assert np.array_equal(coding.decode(tables, code, shape, 12), symbols)


def test_tables_that_cannot_be_are_refused() -> None:
    import zlib

    for packed in (b"nonsense", zlib.compress(bytes(11)), zlib.compress(bytes(13)), zlib.compress(bytes(12)), zlib.compress(b"\xff" * 12)):
        with pytest.raises(SourceError, match="damaged"):
            coding.decode(packed, b"", (3, 1), 12)


# -- pieces ---------------------------------------------------------------------------------------------------------------------------


def test_worked_example_with_anchors() -> None:
    """Two groups of three tokens, two channels. Anchors (8, −4) and (4, 4): scales 8 and 4, so symbols 127, −127 and 63.5 → 64, 127:
    the decoder sees (8, −4) and (4.0315, 4). Token 1 differs by (0.5, −0.25): scale 0.5; of 15 steps 15 and −7.5, which NumPy rounds
    to the even −8: −0.26667. Token 4 differs from what is seen by (−0.0315, 0.5): −0.945 and 15 steps of 0.5 / 15; token 5 by its scale."""
    x = np.array([[8, -4], [8.5, -4.25], [8, -4], [4, 4], [4, 4.5], [4, 4]], dtype=np.float32)
    raw = pieces.encode(x, 32, 3)
    got = pieces.decode(raw, x.shape)
    seen = 4 / 127 * 128  # 64 / 127 · 8
    expected = [[8, -4], [8.5, -4 - 8 / 15 * 0.5], [8, -4], [seen, 4], [seen - 0.5 / 15, 4.5], [4, 4]]
    assert raw[0] == 1
    np.testing.assert_allclose(got[:5], expected[:5], rtol=1e-6)
    np.testing.assert_allclose(got[5], expected[5], atol=0.0315 / 128)  # its scale is rounded up by less than 2^−7


def test_each_element_is_within_half_a_step_of_its_token() -> None:
    """Without anchors: half of the token's largest over 15; scales are rounded up by less than 2^−7."""
    x = np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
    raw = pieces.encode(x, 32, 10)
    assert raw[0] == 0  # nothing is alike here, so there are no anchors
    error = np.abs(pieces.decode(raw, x.shape) - x)
    assert (error <= np.abs(x).max(axis=1, keepdims=True) * (1 + 2**-7) / 15 / 2 + 1e-6).all()


def test_claim_deltas_to_an_anchor_are_smaller_and_need_fewer_bytes_for_equal_error() -> None:
    """The paper's first insight, on keys made to have it; and its use: without anchors, only more bins reach the same error."""
    x = local_text(1000, 16)
    deltas = (x - x[::10].repeat(10, axis=0))[pieces._others(1000, 10)]
    assert np.square(deltas).mean() < 0.05 * np.square(x).mean()

    def error(raw: bytes) -> float:
        return float(np.square(pieces.decode(raw, x.shape) - x).mean())

    with_anchors = pieces.encode(x, 32, 10)
    without = next(raw for bins in (32, 64, 128, 256, 512, 1024) if error(raw := pieces.encode(x, bins, 1)) <= error(with_anchors))
    assert len(with_anchors) < 0.9 * len(without)


def test_zeros_and_empty_groups_are_exact() -> None:
    for shape in ((1, 3), (10, 3), (11, 3)):
        zeros = np.zeros(shape, dtype=np.float32)
        assert np.array_equal(pieces.decode(pieces.encode(zeros, 16, 10), shape), zeros)


def test_scales_are_never_below_what_they_scale() -> None:
    x = np.array([0.0, 1.0, 1.0001, 3.14159, 1e-30, 6e4, 1e29], dtype=np.float32)
    wide = pieces.widened(pieces.upward(x))
    assert (wide >= x).all()
    assert (wide <= x * (1 + 2**-7)).all()


# -- files ----------------------------------------------------------------------------------------------------------------------------


def some_tensors(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Two layers: a tail of two rows, and an uneven segment behind it; positions, tags and something packed."""
    draw = torch.Generator().manual_seed(5)
    counts = torch.tensor([[5, 3], [0, 9]])
    return {
        "0.tail.keys": torch.randn(2, 2, 23, 4, generator=draw).to(dtype),
        "0.tail.values": torch.randn(2, 2, 23, 6, generator=draw).to(dtype),
        "0.tail.positions": torch.arange(23, dtype=torch.int32).repeat(2, 1),
        "0.tag.mass": torch.rand(2, 2, 23, generator=draw),
        "1.segment0.keys": torch.randn(17, 4, generator=draw).to(dtype),
        "1.segment0.values": torch.randn(17, 4, generator=draw).to(dtype),
        "1.segment0.positions": torch.arange(17, dtype=torch.int32),
        "1.segment0.counts": counts,
        "1.segment1.key_codes": torch.randint(0, 255, (3, 4), dtype=torch.uint8, generator=draw),
        "1.segment1.keys": torch.randn(4, 4, generator=draw),  # another form's own tensor of that name
        "1.tail.keys": torch.zeros(2, 2, 0, 4, dtype=dtype),
        "1.tail.values": torch.zeros(2, 2, 0, 4, dtype=dtype),
        "ids": torch.arange(46).view(2, 23),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("chunk", [4, 1500])
def test_all_names_shapes_and_number_formats_come_back(dtype: torch.dtype, chunk: int, tmp_path: Path) -> None:
    tensors = some_tensors(dtype)
    codec = CacheGen(quality=4, chunk_tokens=chunk)
    names = codec.write(tmp_path, tensors)
    assert len(names) == 1 + max(1, -(-23 // chunk))
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    assert files.sizes(tmp_path) == [(tmp_path / name).stat().st_size for name in names[1:]]
    found = codec.read(tmp_path)
    assert sorted(found) == sorted(tensors)
    for name, tensor in tensors.items():
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype), name
        if pieces.NAME.fullmatch(name) and "segment1" not in name and tensor.numel():
            assert float((found[name].float() - tensor.float()).abs().max()) < 0.12, name
        else:
            assert torch.equal(found[name], tensor), name


def test_a_row_is_coded_by_itself(tmp_path: Path) -> None:
    """Row 1 of a batch gives what it gives alone, and an uneven head's tokens end where its count says."""
    tensors = some_tensors()
    CacheGen().write(tmp_path, tensors)
    both = CacheGen().read(tmp_path)
    (tmp_path / "alone").mkdir()
    alone = {"0.tail.keys": tensors["0.tail.keys"][1:], "1.segment0.keys": tensors["1.segment0.keys"][8:]}
    alone |= {
        "1.segment0.values": alone["1.segment0.keys"],
        "1.segment0.positions": torch.arange(9),
        "1.segment0.counts": torch.tensor([[9]]),
    }
    CacheGen().write(tmp_path / "alone", alone)
    found = CacheGen().read(tmp_path / "alone")
    assert torch.equal(found["0.tail.keys"], both["0.tail.keys"][1:])
    assert torch.equal(found["1.segment0.keys"], both["1.segment0.keys"][8:])


def test_numbers_that_have_no_scale_are_kept_exactly(tmp_path: Path) -> None:
    tensors = {"0.tail.keys": torch.tensor([[[[1.0, math.inf]]]]), "0.tail.values": torch.tensor([[[[math.nan, 2.0]]]])}
    CacheGen().write(tmp_path, tensors)
    assert sorted(load_file(tmp_path / files.EXACT)) == ["0.tail.keys", "0.tail.values"]
    found = CacheGen().read(tmp_path)
    assert torch.equal(found["0.tail.keys"], tensors["0.tail.keys"])


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    codec = CacheGen(chunk_tokens=10)
    names = codec.write(tmp_path, some_tensors())
    good = {name: (tmp_path / name).read_bytes() for name in names}
    for name, raw in good.items():
        for bad in (raw[:-1], raw[:5], b"", bytes([raw[len(raw) // 2] ^ 1]).join([raw[: len(raw) // 2], raw[len(raw) // 2 + 1 :]])):
            (tmp_path / name).write_bytes(bad)
            with pytest.raises(SourceError, match="damaged"):
                codec.read(tmp_path)
        (tmp_path / name).write_bytes(raw)
    (tmp_path / names[2]).write_bytes(good[names[1]])
    with pytest.raises(SourceError, match="chunk 1 is chunk 0"):
        codec.read(tmp_path)
    (tmp_path / names[2]).unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        codec.read(tmp_path)
    (tmp_path / names[2]).write_bytes(good[names[2]])
    codec.read(tmp_path)


def test_another_version_says_so(tmp_path: Path) -> None:
    CacheGen().write(tmp_path, some_tensors())
    path = tmp_path / files.chunk_name(0)
    raw = bytearray(path.read_bytes()[: -files.DIGEST])
    raw[8] = 9
    path.write_bytes(bytes(raw) + hashlib.sha256(raw).digest())
    with pytest.raises(SourceError, match="has format 9; this version reads format 1"):
        CacheGen().read(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h["tensors"]["0.tail.keys"].update(shape=[2, 2, 23, 40]), "another size"),
        (lambda h: h["tensors"]["0.tail.keys"].update(shape=[2, 2, -23, -4]), "another size"),
        (lambda h: h["pieces"][0].__setitem__(2, 10**9), "cannot hold"),
        (lambda h: h["pieces"][0].__setitem__(3, 1), "cannot hold|too short"),
        (lambda h: h["pieces"].pop(), "belong to nothing"),
        (lambda h: h["tensors"].pop("0.tail.keys"), "0.tail.keys"),
        (lambda h: h.update(chunks="many"), "ValueError"),
        (lambda h: h["tensors"]["0.tail.keys"].update(dtype="object"), "object"),
    ],
)
def test_a_made_up_head_is_refused_before_memory_is_asked_for(change: Callable[[Any], Any], said: str, tmp_path: Path) -> None:
    """A stranger's file has a right checksum too."""
    CacheGen().write(tmp_path, some_tensors())
    path = tmp_path / files.chunk_name(0)
    head, body = files._read_chunk(path)
    change(head)
    files._write_chunk(path, head, body)
    with pytest.raises(SourceError, match=said):
        CacheGen().read(tmp_path)


# -- in a model -----------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    "recipe", ["cachegen(quality=4)", "cachegen(quality=4) + random(budget_tokens=30)", "cachegen + kivi(group_tokens=8)"]
)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_saved_context_goes_on_as_it_would_have(recipe: str, family: str, tiny: Callable[..., Any], tmp_path: Path) -> None:
    """Logits differ by what the quantisation costs and no more; names of model, recipe and tokens are checked as for plain files."""
    model = tiny(family)
    with attach(model, recipe) as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        saving.save(cache, tmp_path / "c", {"model": "x"})
        back = saving.load(w, tmp_path / "c", saving.read_manifest(tmp_path / "c", {"model": "x"}))
        assert [h.tolist() for h in back.held()] == [h.tolist() for h in cache.held()]
        for one, other in zip(cache.stores, back.stores, strict=True):
            a, b = one.view(), other.view()
            assert torch.equal(a.head_positions, b.head_positions)
            held = a.head_positions >= 0
            assert float((a.keys - b.keys)[held].square().mean()) < 0.003 * float(a.keys[held].square().mean())
        one, two = (model(IDS[:, :1], past_key_values=c).logits.log_softmax(-1) for c in (cache, back))
    assert float((one.exp() * (one - two)).sum(-1).max()) < 0.05  # Kullback-Leibler, nats
    with pytest.raises(ModelError, match="belongs to another model"):
        saving.read_manifest(tmp_path / "c", {"model": "y"})


@torch.no_grad()
def test_fewer_bytes_at_every_lower_quality_and_less_error_at_every_higher_one(tmp_path: Path) -> None:
    keys = torch.from_numpy(local_text(300, 32)).view(1, 300, 2, 16).transpose(1, 2).contiguous()
    tensors = {f"{i}.tail.keys": keys for i in range(4)}
    sizes, errors = [], []
    for quality in (1, 2, 3, 4):
        folder = tmp_path / str(quality)
        folder.mkdir()
        codec = CacheGen(quality=quality)
        sizes.append(sum((folder / name).stat().st_size for name in codec.write(folder, tensors)))
        found = codec.read(folder)
        errors.append(sum(float((found[name] - t).square().mean()) for name, t in tensors.items()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


# -- load or recompute ----------------------------------------------------------------------------------------------------------------

CHUNKS = [Chunk(1000, {1: 10, 2: 20, 3: 40})] * 3


def test_worked_example_of_the_choice() -> None:
    """Three chunks, 1,000 tokens a second, so text takes 3 s; 10 bytes a second, so qualities take 12, 6 and 3 s."""
    assert choose(CHUNKS, Rates(10, 1000, 3.0)) == Step(None, 1.0)
    assert choose(CHUNKS, Rates(10, 500, 12.0)) == Step(None, 2.0)  # text in 6 s loses nothing
    assert choose(CHUNKS, Rates(10, 200, 12.0)) == Step(3, 4.0)  # text in 15 s is late, the best quality is not
    assert choose(CHUNKS, Rates(10, 200, 11.9)) == Step(2, 2.0)
    assert choose(CHUNKS, Rates(10, 200, 3.0)) == Step(1, 1.0)
    assert choose(CHUNKS, Rates(10, 200, 2.9)) == Step(1, 1.0)  # nothing fits: the quickest
    assert choose(CHUNKS, Rates(10, 1001, 2.9)) == Step(None, 1000 / 1001)


def test_a_plan_goes_on_with_the_time_that_is_left() -> None:
    """12 s at 80 tokens a second (12.5 s a chunk): best quality for the first (4 s), and 8 s for 80 bytes of the others: again."""
    assert [s.quality for s in plan(CHUNKS, Rates(10, 80, 12.0))] == [3, 3, 3]
    assert [s.quality for s in plan(CHUNKS, Rates(10, 80, 9.0))] == [2, 2, 3]  # 7 s left, then 5: the last may be best
    assert plan([], Rates(1, 1, 0.0)) == []


def test_sizes_written_are_what_the_choice_is_given(tmp_path: Path) -> None:
    keys = torch.from_numpy(local_text(40, 8)).view(1, 40, 2, 4).transpose(1, 2).contiguous()
    offered: list[dict[int, int]] = [{}, {}]
    for quality in (1, 3):
        folder = tmp_path / str(quality)
        folder.mkdir()
        CacheGen(quality=quality, chunk_tokens=20).write(folder, {"0.tail.keys": keys})
        for chunk, size in zip(offered, files.sizes(folder), strict=True):
            chunk[quality] = size
    chunks = [Chunk(20, sizes) for sizes in offered]
    assert choose(chunks, Rates(1e9, 1, 1.0)).quality == 3
    assert choose(chunks, Rates(1e9, 1e9, 1.0)).quality is None


# -- what is refused, and cost --------------------------------------------------------------------------------------------------------


def test_options_that_are_refused() -> None:
    for options in ({"quality": 0}, {"quality": 5}, {"group_tokens": 0}, {"chunk_tokens": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            CacheGen(**options)
    with pytest.raises(ConfigError, match="bytes_per_s"):
        Rates(0, 1, 1)
    with pytest.raises(ConfigError, match="no chunk"):
        choose([], Rates(1, 1, 1))


def test_cost_counts_every_element_once() -> None:
    cost = CacheGen().cost(Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=10))
    assert cost.flops == 5 * 2 * 2 * 2 * 8 * 10
    assert cost.bytes_kept == 2 * 2 * 2 * 8 * 10 * 2


def test_the_manifest_lists_the_files_with_their_checksums(tiny: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny("llama")
    with torch.no_grad(), attach(model, "cachegen(chunk_tokens=20)") as w:
        cache = w.cache()
        model(IDS, past_key_values=cache)
        saving.save(cache, tmp_path / "c", {})
    listed = json.loads((tmp_path / "c" / saving.MANIFEST).read_text())["files"]
    assert sorted(listed) == ["chunk-00000.bin", "chunk-00001.bin", "chunk-00002.bin", "exact.safetensors"]
    (tmp_path / "c" / "chunk-00001.bin").write_bytes(b"other")
    with pytest.raises(SourceError, match="does not have its checksum"):
        saving.read_manifest(tmp_path / "c", {})
