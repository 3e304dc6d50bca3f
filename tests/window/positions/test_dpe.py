"""DPE: positions by pair and head, the needle probe, and the choice of key pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baywindow.errors import CapabilityError, ConfigError, SourceError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.base import Calibration, Shape
from baywindow.window.positions.dpe import DPE, compressed, group_of, key_pairs, norms_of, pair_norms, with_needle


def test_worked_example():
    # w = 4 and scales 2 and 1: query 9 stands at 9 // 2 + 4 - 2 = 6 in the first pair and at 9 in the second; key 3 at 1 and 3.
    q, k = compressed(torch.tensor([[[9]]]), torch.tensor([[[3]]]), torch.tensor([[2, 1]]), 4)
    assert q.flatten().tolist() == [6, 9]
    assert k.flatten().tolist() == [1, 3]


@pytest.mark.parametrize(("n", "seed", "scales"), [(7, 0, (2, 4)), (20, 1, (1, 3)), (26, 2, (5, 2))])
def test_same_as_the_paper(ask, engine, slow, same, n, seed, scales):
    norms = np.random.default_rng(seed).random((1, 4, 4)).astype(np.float32)
    arrays = {"dpe": {"scales": np.array(scales, dtype=np.float32), "norms": norms}}
    asked, w = ask(n, trained=32, seed=seed, heads=4, kv=2, arrays=arrays), 6

    def angle(h, i, j, f):
        top = sorted(range(4), key=lambda x: -norms[0, h, x])[:2]  # key_share 0.5 of 4 pairs
        s = scales[f // 2] if f in top else 1
        distance = i - j if i - j < w else (i // s + w - w // s) - j // s
        return distance * asked.inv_freq[f].item()

    same(engine(DPE(window_tokens=w, groups=2, key_share=0.5), asked), slow(asked, angle), asked)


def test_up_to_its_window_it_is_stock(ask, engine, slow, same):
    asked = ask(8, trained=64)
    scheme = DPE(groups=2, scales=(4, 4))
    assert scheme.window(64) == 8
    same(engine(scheme, asked), slow(asked, lambda h, i, j, f: (i - j) * asked.inv_freq[f].item()), asked)


def test_scale_one_everywhere_is_stock_through_the_seam(tiny):
    model = tiny("llama")
    ids = torch.randint(0, 97, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(ids).logits
        with attach(model, Recipe((DPE(groups=8, scales=(1,) * 8),))):
            torch.testing.assert_close(model(ids).logits, expected, atol=1e-4, rtol=1e-4)


def test_key_pairs_are_the_largest_of_each_head():
    norms = torch.tensor([[1.0, 4.0, 2.0, 3.0], [9.0, 1.0, 8.0, 2.0]])
    assert key_pairs(norms, 0.5).tolist() == [[False, True, False, True], [True, False, True, False]]
    assert key_pairs(norms, 0.01).sum(dim=1).tolist() == [1, 1]


def test_norms_follow_the_layout_of_the_model():
    # Half layout pairs columns 0 and 2, 1 and 3; interleaved layout 0 and 1, 2 and 3. The fifth column is not rotated.
    x = torch.tensor([3.0, 5.0, 4.0, 12.0, 100.0])
    assert norms_of(x, torch.tensor([0, 1, 0, 1]), 2).tolist() == pytest.approx([5.0, 13.0])
    assert norms_of(x, torch.tensor([0, 0, 1, 1]), 2).tolist() == pytest.approx([34**0.5, 160**0.5])


def test_groups_are_runs_of_equal_length():
    assert group_of(16, 8).tolist() == [i // 2 for i in range(16)]
    assert group_of(5, 2).tolist() == [0, 0, 0, 1, 1]


def test_a_needle_is_repeated_at_the_end():
    piece = torch.arange(20)[None]
    assert with_needle(piece, 3, 4)[0].tolist() == [*range(16), 3, 4, 5, 6]
    assert with_needle(piece, 19, 4)[0, -4:].tolist() == [12, 13, 14, 15]


def fake(ids, score, saved=None, forward=None):
    saved = {} if saved is None else saved
    return Calibration(
        info=FakeInfo(), ids=ids, forward=forward or silent, load_checkpoint=lambda: dict(saved), save_checkpoint=saved.update,
        sensitivity=None, score_with=score, inv_freq=torch.ones(4), pair_columns=torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]),
    )  # fmt: skip


class FakeInfo:
    trained_tokens = 16
    layers = (type("L", (), {"index": 0, "q_heads": 2, "kv_heads": 1, "group": 2})(),)


def silent(ids, observe):
    observe(FakeInfo.layers[0], torch.ones(1, 2, ids.shape[1], 8), torch.ones(1, 1, ids.shape[1], 8))


def probe(saved=None, stop_after=None):
    """A model whose answers are best when the first group's scale is 4 and the second's 16."""
    calls = []

    def score(part, ids, tail):
        assert tail == 1
        calls.append(part.scales)
        if stop_after is not None and len(calls) > stop_after:
            raise KeyboardInterrupt
        return abs(part.scales[0] - 4) + abs(part.scales[1] - 16) / 4

    scheme = DPE(factor=4.0, groups=2, samples=1, answer_tokens=1)
    ids = torch.zeros(1, 64, dtype=torch.long)
    return scheme.prepare(fake(ids, score, saved)), calls


def test_the_probe_finds_each_groups_best_scale():
    arrays, calls = probe()
    assert arrays["scales"].tolist() == [4.0, 16.0]
    # The common scale is 2 · 4 = 8: one group varies over 1 (8 / 16 rounds below it), 2, 4, 8, 16, 32, 128, the other stays at 8.
    assert {c for c in calls if c[1] == 8} == {(s, 8) for s in (1, 2, 4, 8, 16, 32, 128)}
    assert len(calls) == 2 * 7


def test_a_stopped_probe_goes_on():
    saved: dict[str, np.ndarray] = {}
    with pytest.raises(KeyboardInterrupt):
        probe(saved, stop_after=11)
    arrays, calls = probe(saved)
    assert arrays["scales"].tolist() == [4.0, 16.0]
    assert len(calls) == 2 * 7 - 11


def test_norms_are_averaged_over_texts():
    norms = pair_norms(fake(torch.zeros(1, 64, dtype=torch.long), None), [torch.zeros(1, 5), torch.zeros(1, 9)])
    np.testing.assert_allclose(norms, np.full((1, 2, 4), 2.0), rtol=1e-6)  # √2 · √2


def test_without_scales_it_says_how_to_prepare(ask):
    with pytest.raises(CapabilityError, match="no scales") as caught:
        DPE().branches(ask(20, trained=32))
    assert "bay prepare" in caught.value.hint


def test_too_short_a_text_is_refused():
    with pytest.raises(SourceError, match="60 tokens"):
        DPE(factor=4.0).prepare(fake(torch.zeros(1, 60, dtype=torch.long), lambda part, ids, tail: 0.0))


@pytest.mark.parametrize(
    "options", [{"factor": 0.1}, {"window_tokens": 0}, {"groups": 0}, {"key_share": 0.0}, {"scales": (1, 2)}, {"needle_tokens": 1}]
)
def test_bad_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        DPE(**options)


def test_cost_rotates_far_keys_for_every_query_head():
    shape = Shape(layers=2, q_heads=4, kv_heads=2, head_dim=8, prompt_tokens=5)
    assert DPE(groups=1, scales=(2,)).cost(shape).flops == 5 * (2 + 4) * 8 * 3 * 2 + 2 * 4 * 5 * 5 * 8 * 2 * 2


@pytest.mark.slow
def test_compressed_pairs_retrieve_beyond_the_window_where_stock_fails(testbed):
    # The common scale that the probe starts from, twice the extension, for every group; the probe itself takes minutes.
    stock, stock_loss = testbed.answers("stock", 1024)
    found, loss = testbed.answers(Recipe((DPE(factor=4.0, scales=(8,) * 8),)), 1024)
    assert found == 1.0
    assert loss < 0.05
    assert stock <= 0.75
    assert stock_loss > 1.0
