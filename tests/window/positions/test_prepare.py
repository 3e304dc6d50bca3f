"""`prepare` on a real (tiny) model: arrays are found when attaching, bound to the settings; a stopped search goes on."""

from __future__ import annotations

import pytest
import torch
from safetensors.numpy import load_file

from baywindow.errors import CapabilityError, ConfigError, SourceError
from baywindow.recipe import Recipe
from baywindow.window import attach
from baywindow.window.engine.prepare import prepare
from baywindow.window.positions.dpe import DPE
from baywindow.window.positions.linear import Linear
from baywindow.window.positions.longrope import LongRoPE

SMALL = LongRoPE(factor=2.0, population=4, parents=2, mutations=1, crossovers=1, rounds=2, samples=1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BAY_CACHE", str(tmp_path))


def text(tokens=256):
    return torch.randint(0, 97, (1, tokens), generator=torch.Generator().manual_seed(0))


def test_what_longrope_finds_is_used_when_attaching(tiny):
    model = tiny("llama")
    with pytest.raises(CapabilityError, match="longrope"):
        attach(model, Recipe((SMALL,)))
    path = prepare(model, SMALL, text())
    arrays = load_file(path)
    assert arrays["factors"].shape == (8,)
    given = LongRoPE(factor=2.0, factors=tuple(arrays["factors"].tolist()), start_tokens=int(arrays["start_tokens"][0]))
    ids = text(100)
    with torch.no_grad():
        with attach(model, Recipe((given,))):
            expected = model(ids).logits
        with attach(model, Recipe((SMALL,))):
            torch.testing.assert_close(model(ids).logits, expected)
    assert not list(path.parent.glob("*.checkpoint"))


def test_the_found_factors_score_best_of_all_tried(tiny):
    model, ids = tiny("llama"), text()
    arrays = load_file(prepare(model, SMALL, ids))

    def loss(factors, start=0):
        scheme = LongRoPE(factor=2.0, factors=tuple(factors), start_tokens=start)
        with torch.no_grad(), attach(model, Recipe((scheme,))):
            logits = model(ids[:, :128]).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, ids[0, 1:128]).item()

    best = loss(arrays["factors"].tolist(), int(arrays["start_tokens"][0]))
    assert best <= loss([2.0] * 8) + 1e-5  # linear scaling was among the seeds


def test_dpe_on_a_real_model_and_the_stock_model_afterwards(tiny):
    model, ids = tiny("qwen2"), text()
    with torch.no_grad():
        before = model(ids[:, :50]).logits
    scheme = DPE(factor=2.0, groups=2, samples=1)
    arrays = load_file(prepare(model, scheme, ids))
    assert arrays["scales"].shape == (2,)
    assert arrays["norms"].shape == (3, 4, 8)
    assert (arrays["norms"] > 0).all()
    with torch.no_grad():
        with attach(model, Recipe((scheme,))):
            assert torch.isfinite(model(ids[:, :128]).logits).all()
        torch.testing.assert_close(model(ids[:, :50]).logits, before, atol=0, rtol=0)


def test_norms_are_those_of_the_models_own_queries_and_keys(tiny):
    model, ids = tiny("llama"), text(128)
    norms = load_file(prepare(model, DPE(factor=2.0, groups=1, samples=1, answer_tokens=4), ids))["norms"][0]
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        hidden = model.model.layers[0].input_layernorm(model.model.embed_tokens(ids))[0]
        q = attention.q_proj(hidden).view(128, 4, 2, 8).norm(dim=2)  # half layout: pair f is columns f and f + 8
        k = attention.k_proj(hidden).view(128, 2, 2, 8).norm(dim=2).repeat_interleave(2, dim=1)
    torch.testing.assert_close(torch.from_numpy(norms), (q * k).mean(dim=0), atol=1e-4, rtol=1e-4)


def test_other_settings_have_other_arrays(tiny):
    model = tiny("llama")
    prepare(model, SMALL, text())
    with pytest.raises(CapabilityError, match="longrope"):
        attach(model, "longrope(factor=2.0)")


def test_nothing_to_prepare_is_said(tiny):
    with pytest.raises(ConfigError, match="linear has nothing to prepare"):
        prepare(tiny("llama"), Linear(), text())


def test_an_empty_text_is_refused(tiny):
    with pytest.raises(SourceError, match="fewer than two tokens"):
        prepare(tiny("llama"), SMALL, torch.zeros(1, 1, dtype=torch.long))


def test_a_score_is_the_loss_of_the_last_tokens(tiny):
    model, ids, seen = tiny("llama"), text(40), []

    class Probe(LongRoPE):
        def prepare(self, calibration):
            seen.extend(calibration.score_with(Linear(factor=1.0), calibration.ids, tail) for tail in (0, 3))
            return {"factors": ids[0, :1].float().numpy()}

    prepare(model, Probe(factor=2.0), ids)
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
    assert seen == pytest.approx([losses.mean().item(), losses[-3:].mean().item()], abs=1e-4)
